//! Pictures and tables of the documentation, from a committed record.
//!
//! Draws nothing that is not in the record, and measures nothing.

use crate::record::{FLOOR, Origin, median, range};
use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Color as _, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont,
    IntoLogRange, LineSeries, PathElement, RGBColor, Rectangle, SVGBackend, SeriesLabelPosition,
    WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, TextStyle};
use serde::Deserialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};
use thiserror::Error;

/// Servers in the order of the pictures, with their display names; `ours` are drawn in colour.
const SERVERS: [Server; 11] = [
    Server::other(FLOOR, "raw epoll responder, stores nothing"),
    Server::other("nginx-204", "nginx `return 204`, stores nothing"),
    Server::ours("sluice-null", "Sluice, null output"),
    Server::ours("sluice-null-linger", "Sluice, null output, 1 ms linger"),
    Server::ours("sluice-kinesis", "Sluice, Kinesis emulator, acknowledged"),
    Server::ours("sluice-kafka", "Sluice, Apache Kafka, acknowledged"),
    Server::ours("sluice-s3", "Sluice, S3, synced to disk"),
    Server::other(
        "nginx-proxy-keepalive",
        "nginx forwarding, kept connections",
    ),
    Server::other("nginx-proxy", "nginx forwarding, a connection per request"),
    Server::other(
        "nginx-vector",
        "nginx + Vector, acknowledged, drops its output",
    ),
    Server::other("benthos", "Benthos, drops its output"),
];

/// Servers of the README's table.
const README: [&str; 5] = [
    "nginx-204",
    "sluice-null",
    "sluice-kinesis",
    "nginx-proxy",
    "benthos",
];

/// The workloads of the pictures: 1 KiB events in a closed loop, with few and with many connections.
const FEW: &str = "single-64";
const MANY: &str = "single-1000";

/// The workloads of the second table, with their display names.
const SHAPES: [(&str, &str); 6] = [
    (
        "envelope10-64",
        "envelopes of 10 events in 2 KB, 64 connections",
    ),
    (
        "batch20-64",
        "arrays of 20 events in 16 KiB, 64 connections",
    ),
    (
        "batch20-1000",
        "arrays of 20 events in 16 KiB, 1,000 connections",
    ),
    (
        "single-64-at-20000",
        "1 KiB events, 20,000/s, 64 connections",
    ),
    (
        "single-1000-at-40000",
        "1 KiB events, 40,000/s, 1,000 connections",
    ),
    (
        "envelope10-64-new-at-6000",
        "envelopes, 6,000/s, a connection per request",
    ),
];

/// A server that answered less than this share of the offered load did not hold it.
const LOAD_HELD: f64 = 0.98;

const OURS: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const OURS_LIGHT: RGBColor = RGBColor(0x56, 0xb4, 0xe9);
const OTHERS: RGBColor = RGBColor(0x6b, 0x72, 0x7a);
const OTHERS_LIGHT: RGBColor = RGBColor(0xb4, 0xb8, 0xbe);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);

/// Colours of the latency picture, distinct for colour-blind readers too (Okabe and Ito, 2008).
const LINES: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x00, 0x00),
];

struct Server {
    name: &'static str,
    label: &'static str,
    is_ours: bool,
}

impl Server {
    const fn ours(name: &'static str, label: &'static str) -> Server {
        Server {
            name,
            label,
            is_ours: true,
        }
    }

    const fn other(name: &'static str, label: &'static str) -> Server {
        Server {
            name,
            label,
            is_ours: false,
        }
    }
}

/// Why there is no figure.
#[derive(Debug, Error)]
pub enum FigureError {
    /// A record or a page cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The record is not JSON of this form.
    #[error("the record cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    /// The record lacks a measurement of a picture.
    #[error("the record has no figure of {server} under {workload}")]
    Missing {
        /// The server's row.
        server: String,
        /// The workload's row.
        workload: String,
    },
    /// The drawing crate failed.
    #[error("a picture cannot be drawn: {0}")]
    Draw(String),
    /// A page has no place for its figures.
    #[error("the page lacks the lines {begin:?} and {END:?}")]
    NoSection {
        /// The line in front of the figures.
        begin: String,
    },
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for FigureError {
    fn from(error: DrawingAreaErrorKind<E>) -> FigureError {
        FigureError::Draw(error.to_string())
    }
}

/// The parts of a committed record that figures are made of.
#[derive(Debug, Deserialize)]
pub struct Stored {
    origin: Origin,
    seconds: u64,
    rounds: u64,
    workloads: Vec<Offered>,
    cells: Vec<Measured>,
}

#[derive(Debug, Deserialize)]
struct Offered {
    name: String,
    #[serde(default)]
    rate: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Measured {
    workload: String,
    peer: String,
    samples: Vec<Figures>,
}

#[derive(Debug, Deserialize)]
struct Figures {
    requests_per_second: f64,
    cpu_us_per_request: f64,
    #[serde(default)]
    generator_is_bottleneck: bool,
    p50_us: f64,
    p99_us: f64,
    resident_bytes: u64,
}

impl Stored {
    /// Reads a record as `peers --out` wrote it.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(json: &str) -> Result<Stored, FigureError> {
        Ok(serde_json::from_str(json)?)
    }

    fn samples(&self, server: &str, workload: &str) -> Option<&[Figures]> {
        let cell = self
            .cells
            .iter()
            .find(|cell| cell.peer == server && cell.workload == workload)?;
        (!cell.samples.is_empty()).then_some(&cell.samples)
    }

    /// The median over the rounds.
    fn of(&self, server: &str, workload: &str, value: fn(&Figures) -> f64) -> Option<f64> {
        let samples = self.samples(server, workload)?;
        Some(median(samples.iter().map(value)))
    }

    fn need(
        &self,
        server: &str,
        workload: &str,
        value: fn(&Figures) -> f64,
    ) -> Result<f64, FigureError> {
        self.of(server, workload, value)
            .ok_or_else(|| FigureError::Missing {
                server: server.to_owned(),
                workload: workload.to_owned(),
            })
    }

    /// Median over the rounds of CPU per request against the floor's in the same round.
    fn ratio(&self, server: &str, workload: &str) -> Option<f64> {
        let (own, floor) = (
            self.samples(server, workload)?,
            self.samples(FLOOR, workload)?,
        );
        let ratios: Vec<f64> = own
            .iter()
            .zip(floor)
            .filter(|(_, floor)| floor.cpu_us_per_request > 0.0)
            .map(|(own, floor)| own.cpu_us_per_request / floor.cpu_us_per_request)
            .collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }
}

const RATE: fn(&Figures) -> f64 = |sample| sample.requests_per_second;
const CPU: fn(&Figures) -> f64 = |sample| sample.cpu_us_per_request;
const P50_MS: fn(&Figures) -> f64 = |sample| sample.p50_us / 1e3;
const P99_MS: fn(&Figures) -> f64 = |sample| sample.p99_us / 1e3;
const MEMORY_MIB: fn(&Figures) -> f64 = |sample| sample.resident_bytes as f64 / 1_048_576.0;

/// Whole numbers in groups of three.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn one_decimal(value: f64) -> String {
    format!("{value:.1}")
}

/// The pictures by file name. The latency picture comes from `load`, a record of rising loads, if there is one.
///
/// # Errors
/// When the record has no figures for a picture.
pub fn pictures(
    record: &Stored,
    load: Option<&Stored>,
) -> Result<Vec<(&'static str, String)>, FigureError> {
    let mut pictures = vec![
        (
            "throughput.svg",
            bars(
                record,
                "requests per second, 1 KiB events, closed loop",
                RATE,
                grouped,
            )?,
        ),
        (
            "cpu.svg",
            bars(
                record,
                "CPU of the server per request, µs",
                CPU,
                one_decimal,
            )?,
        ),
    ];
    if let Some(load) = load {
        pictures.push(("latency.svg", latency(load)?));
    }
    Ok(pictures)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn font(size: u32) -> FontDesc<'static> {
    ("system-ui, sans-serif", size).into_font()
}

fn style(size: u32, at: HPos) -> TextStyle<'static> {
    TextStyle::from(font(size))
        .color(&INK)
        .pos(Pos::new(at, VPos::Center))
}

/// Horizontal bars: two for each server, for few and for many connections.
fn bars(
    record: &Stored,
    title: &str,
    value: fn(&Figures) -> f64,
    write: fn(f64) -> String,
) -> Result<String, FigureError> {
    const WIDTH: i32 = 960;
    const TOP: i32 = 64;
    const ROW: i32 = 52;
    const BAR: i32 = 20;
    const LEFT: i32 = 330;
    const RIGHT: i32 = 90;
    let mut rows = Vec::new();
    for server in &SERVERS {
        let values = [FEW, MANY].map(|workload| record.of(server.name, workload, value));
        if let [Some(few), Some(many)] = values {
            rows.push((server, [few, many]));
        }
    }
    // A record of something else would make an empty picture.
    record.need(FLOOR, FEW, value)?;
    record.need("sluice-null", MANY, value)?;
    let (_, max) = range(rows.iter().flat_map(|(_, values)| *values));
    let width_of =
        |value: f64| ((f64::from(WIDTH - LEFT - RIGHT) * value / max).round() as i32).max(1);
    let height = TOP + ROW * i32::try_from(rows.len()).unwrap_or_default() + 12;
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        area.draw_text(title, &style(20, HPos::Left), (12, 20))?;
        legend(&area, 44)?;
        for (at, (server, values)) in rows.iter().enumerate() {
            let top = TOP + ROW * i32::try_from(at).unwrap_or_default();
            let label = server.label.replace('`', "");
            area.draw_text(&label, &style(15, HPos::Right), (LEFT - 12, top + BAR))?;
            let colors = if server.is_ours {
                [OURS_LIGHT, OURS]
            } else {
                [OTHERS_LIGHT, OTHERS]
            };
            for (index, (value, color)) in values.iter().zip(colors).enumerate() {
                let top = top + BAR * i32::try_from(index).unwrap_or_default();
                let end = LEFT + width_of(*value);
                area.draw(&Rectangle::new(
                    [(LEFT, top), (end, top + BAR - 2)],
                    color.filled(),
                ))?;
                area.draw_text(
                    &write(*value),
                    &style(14, HPos::Left),
                    (end + 6, top + BAR / 2),
                )?;
            }
        }
        area.present()?;
    }
    Ok(svg)
}

fn legend(area: &Area<'_>, y: i32) -> Result<(), FigureError> {
    for (x, color, text) in [
        (12, OTHERS_LIGHT, "64 connections"),
        (160, OTHERS, "1,000 connections"),
    ] {
        area.draw(&Rectangle::new(
            [(x, y - 7), (x + 14, y + 7)],
            color.filled(),
        ))?;
        area.draw_text(text, &style(14, HPos::Left), (x + 20, y))?;
    }
    Ok(())
}

/// One server's line: offered load, and a percentile at it in milliseconds.
struct Line {
    label: String,
    points: Vec<(f64, f64)>,
}

/// Latency at each offered load that a server held; a line ends where its server no longer kept up.
fn latency(load: &Stored) -> Result<String, FigureError> {
    let mut offered: Vec<(f64, &str)> = load
        .workloads
        .iter()
        .filter_map(|workload| Some((f64::from(workload.rate?), workload.name.as_str())))
        .collect();
    offered.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line = |server: &Server, percentile: &str, value| {
        let held = offered.iter().filter(|(rate, workload)| {
            let answered = load.of(server.name, workload, RATE);
            answered.is_some_and(|answered| answered >= rate * LOAD_HELD)
        });
        let points: Vec<(f64, f64)> = held
            .filter_map(|(rate, workload)| Some((*rate, load.of(server.name, workload, value)?)))
            .collect();
        let label = format!("{}, {percentile}", server.label.replace('`', ""));
        (!points.is_empty()).then_some(Line { label, points })
    };
    let lines: Vec<[Line; 2]> = SERVERS
        .iter()
        .filter_map(|server| Some([line(server, "p50", P50_MS)?, line(server, "p99", P99_MS)?]))
        .collect();
    if lines.is_empty() {
        return Err(FigureError::Missing {
            server: "any server".to_owned(),
            workload: "a fixed rate".to_owned(),
        });
    }
    let points = || lines.iter().flatten().flat_map(|line| &line.points);
    let (_, rate_max) = range(points().map(|point| point.0));
    let (low, high) = range(points().map(|point| point.1));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (960, 540)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("latency over offered load, ms", font(20).color(&INK))
            .margin(12)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(
                0.0..rate_max * 1.05,
                (low.max(0.001) * 0.7..high * 1.5).log_scale(),
            )?;
        chart
            .configure_mesh()
            .light_line_style(GRID.mix(0.4))
            .bold_line_style(GRID)
            .label_style(font(14).color(&INK))
            .x_desc("requests per second offered, 1 KiB events")
            .x_label_formatter(&|rate| grouped(*rate))
            .y_label_formatter(&|ms| format!("{ms}"))
            .draw()?;
        for (pair, color) in lines.iter().zip(LINES.iter().cycle()) {
            for (line, width) in pair.iter().zip([3, 1]) {
                let stroke = color.stroke_width(width);
                chart
                    .draw_series(
                        LineSeries::new(line.points.iter().copied(), stroke).point_size(2 + width),
                    )?
                    .label(line.label.clone())
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], stroke));
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(font(13).color(&INK))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// Names the record that the documentation is made of.
pub const PUBLISHED: &str = "bench-harness/record/published";

/// Every file of the documentation that has figures, as it should be: pictures, and pages with their sections
/// renewed. `root` is the workspace. Rising loads are in the record of the same name with `-load` behind it.
///
/// # Errors
/// When a record or a page cannot be read, or data of a figure is missing.
pub fn documents(root: &Path) -> Result<Vec<(PathBuf, String)>, FigureError> {
    let read = |path: PathBuf| {
        fs::read_to_string(&path).map_err(|error| FigureError::Read { path, error })
    };
    let published = read(root.join(PUBLISHED))?;
    let name = published.trim();
    let path_of = |name: &str| root.join(format!("bench-harness/record/{name}.json"));
    let record = Stored::parse(&read(path_of(name))?)?;
    let load = path_of(&format!("{name}-load"));
    let load = if load.exists() {
        Some(Stored::parse(&read(load)?)?)
    } else {
        None
    };
    let mut files: Vec<(PathBuf, String)> = pictures(&record, load.as_ref())?
        .into_iter()
        .map(|(name, picture)| (root.join("docs/figures").join(name), picture))
        .collect();
    for (page, section) in [
        ("README.md", readme(&record)?),
        (
            "docs/performance.md",
            performance(&record, name, load.is_some())?,
        ),
    ] {
        let path = root.join(page);
        let text = replace_section(&read(path.clone())?, &section)?;
        files.push((path, text));
    }
    Ok(files)
}

/// The README's table.
///
/// # Errors
/// When the record has no figures for a row.
pub fn readme(record: &Stored) -> Result<String, FigureError> {
    let Origin {
        cpu, cores, commit, ..
    } = &record.origin;
    let mut text = format!(
        "1 KiB events over 1,000 connections in a closed loop; {cores} cores ({cpu}) shared by generator, server and destination; commit {commit}.\n\n\
         | server | requests/s | CPU µs/request | memory MiB |\n| --- | ---: | ---: | ---: |\n"
    );
    for server in SERVERS
        .iter()
        .filter(|server| README.contains(&server.name))
    {
        let [rate, cpu, memory] =
            [RATE, CPU, MEMORY_MIB].map(|value| record.need(server.name, MANY, value));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.0} |",
            emphasized(server),
            grouped(rate?),
            cpu?,
            memory?
        );
    }
    Ok(text)
}

fn emphasized(server: &Server) -> String {
    if server.is_ours {
        server.label.replacen("Sluice", "**Sluice**", 1)
    } else {
        server.label.to_owned()
    }
}

/// The tables and pictures of the performance page. `name` is the record's file name without its ending.
///
/// # Errors
/// When the record has no figures for the first table.
pub fn performance(record: &Stored, name: &str, has_load: bool) -> Result<String, FigureError> {
    let Origin {
        cpu,
        cores,
        kernel,
        commit,
        date,
        ..
    } = &record.origin;
    let mut text = format!(
        "Commit {commit}, {date}: {cpu}, {cores} cores, Linux {kernel}. Medians of {} interleaved rounds of {} s. \
         [The whole record](../bench-harness/record/{name}.md).\n\n\
         ![Requests per second against other servers](figures/throughput.svg)\n\n\
         ![CPU per request against other servers](figures/cpu.svg)\n",
        record.rounds, record.seconds
    );
    if has_load {
        text.push_str("\n![Latency over offered load](figures/latency.svg)\n");
    }
    text.push_str(
        "\n| 1 KiB events, closed loop, 64 / 1,000 connections | requests/s | CPU µs/request | ratio | memory MiB |\n\
         | --- | ---: | ---: | ---: | ---: |\n",
    );
    let mut is_capped = false;
    for server in &SERVERS {
        if record.samples(server.name, FEW).is_none() {
            continue;
        }
        let both = |write: &mut dyn FnMut(&str) -> Option<String>| {
            [FEW, MANY]
                .map(|workload| write(workload).unwrap_or_else(|| "-".to_owned()))
                .join(" / ")
        };
        let of = |value: fn(&Figures) -> f64, decimals: usize| {
            both(&mut |workload| {
                let value = record.of(server.name, workload, value)?;
                Some(if decimals == 0 {
                    grouped(value)
                } else {
                    format!("{value:.decimals$}")
                })
            })
        };
        let rate = both(&mut |workload| {
            let samples = record.samples(server.name, workload)?;
            let capped = samples.iter().any(|sample| sample.generator_is_bottleneck);
            is_capped |= capped;
            let mark = if capped { "\\*" } else { "" };
            Some(grouped(record.of(server.name, workload, RATE)?) + mark)
        });
        let ratio =
            both(&mut |workload| Some(format!("{:.2}", record.ratio(server.name, workload)?)));
        let _ = writeln!(
            text,
            "| {} | {rate} | {} | {ratio} | {} |",
            emphasized(server),
            of(CPU, 2),
            of(MEMORY_MIB, 0)
        );
    }
    if is_capped {
        text.push_str("\n\\* the generator was the bottleneck in a round: the rate is not the server's limit\n");
    }
    for (workload, about) in SHAPES {
        let _ = write!(
            text,
            "\n| {about} | requests/s | CPU µs/request | p50 ms | p99 ms |\n| --- | ---: | ---: | ---: | ---: |\n"
        );
        for server in &SERVERS {
            let values =
                [RATE, CPU, P50_MS, P99_MS].map(|value| record.of(server.name, workload, value));
            if let [Some(rate), Some(cpu), Some(p50), Some(p99)] = values {
                let _ = writeln!(
                    text,
                    "| {} | {} | {cpu:.1} | {p50:.2} | {p99:.2} |",
                    emphasized(server),
                    grouped(rate)
                );
            }
        }
    }
    Ok(text)
}

/// The line behind the figures of a page.
const END: &str = "<!-- end of figures -->";

/// A page with the section between its two marking lines replaced by `text`.
///
/// # Errors
/// When the page lacks a marking line.
pub fn replace_section(page: &str, text: &str) -> Result<String, FigureError> {
    let begin = "<!-- figures: made by `sluice-bench figures`, do not edit -->\n";
    let missing = || FigureError::NoSection {
        begin: begin.trim_end().to_owned(),
    };
    let (before, rest) = page.split_once(begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{text}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(grouped(7.0), "7");
        assert_eq!(grouped(999.6), "1,000");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
    }

    #[test]
    fn only_the_section_of_a_page_changes() {
        let page = "a\n<!-- figures: made by `sluice-bench figures`, do not edit -->\nold\n<!-- end of figures -->\nz\n";
        let new = replace_section(page, "new\n").unwrap();
        assert!(new.starts_with("a\n<!--") && new.ends_with("-->\nz\n"));
        assert!(new.contains("\nnew\n") && !new.contains("old"));
        assert_eq!(replace_section(&new, "new\n").unwrap(), new);
        assert!(matches!(
            replace_section("a", "b"),
            Err(FigureError::NoSection { .. })
        ));
    }

    fn stored(cells: &str) -> Stored {
        let json = format!(
            r#"{{"origin":{{"cpu":"c","cores":2,"kernel":"k","commit":"x","command":"y","date":"d","load_before":"0"}},
                "seconds":3,"rounds":1,
                "workloads":[{{"name":"at-1000","rate":1000}},{{"name":"at-2000","rate":2000}}],"cells":[{cells}]}}"#
        );
        Stored::parse(&json).unwrap()
    }

    fn cell(workload: &str, rate: f64) -> String {
        format!(
            r#"{{"workload":"{workload}","peer":"sluice-null","samples":[{{"requests_per_second":{rate},
                "cpu_us_per_request":10,"p50_us":500,"p99_us":2000,"resident_bytes":1048576}}]}}"#
        )
    }

    #[test]
    fn a_line_ends_where_its_server_no_longer_keeps_up() {
        let circles = |second: f64| {
            let load = stored(&[cell("at-1000", 1000.0), cell("at-2000", second)].join(","));
            latency(&load).unwrap().matches("<circle").count()
        };
        assert_eq!(circles(1_990.0), 4);
        assert_eq!(circles(1_900.0), 2);
    }

    #[test]
    fn a_record_without_the_measurement_makes_no_picture() {
        let error = pictures(&stored(""), None).unwrap_err();
        assert!(matches!(error, FigureError::Missing { .. }), "{error}");
        assert!(matches!(
            latency(&stored("")),
            Err(FigureError::Missing { .. })
        ));
    }
}
