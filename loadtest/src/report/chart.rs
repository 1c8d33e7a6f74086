//! Draws one plot as SVG: axes with ticks that people would choose, lines with gaps, stacked areas.
//! Knows no runs. Legends are not drawn: a page writes them beside the plot, where a browser can
//! wrap them.

use super::input::ReportError;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::{
    ChartBuilder, Circle, Color as _, DrawingAreaErrorKind, IntoDrawingArea, IntoFont, PathElement,
    Polygon, RGBColor, SVGBackend, ShapeStyle, TRANSPARENT,
};
use std::ops::Range;

type DrawError = DrawingAreaErrorKind<std::io::Error>;

/// Plots are drawn at twice the size at which a page shows them, because the drawing crate rounds
/// to whole pixels.
const WIDTH: u32 = 1_920;

/// Room at the left for the labels: the same in all plots, so that their time axes line up.
const LEFT: u32 = 190;
const BOTTOM: u32 = 86;
const FONT: &str = "system-ui, sans-serif";
const FONT_SIZE: u32 = 33;

/// Ticks that an axis aims at, and never exceeds.
const TICKS: f64 = 6.0;
const TICKS_MAX: usize = 40;

/// A colour that can be told from the others by eyes that see fewer of them (Okabe and Ito, 2008),
/// and in print by its brightness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Color(u8, u8, u8);

impl Color {
    pub(super) const BLUE: Color = Color(0x00, 0x72, 0xb2);
    pub(super) const SKY: Color = Color(0x56, 0xb4, 0xe9);
    pub(super) const GREEN: Color = Color(0x00, 0x9e, 0x73);
    pub(super) const ORANGE: Color = Color(0xe6, 0x9f, 0x00);
    pub(super) const RED: Color = Color(0xd5, 0x5e, 0x00);
    pub(super) const PURPLE: Color = Color(0xcc, 0x79, 0xa7);
    pub(super) const BLACK: Color = Color(0x00, 0x00, 0x00);
    pub(super) const GREY: Color = Color(0xb4, 0xb8, 0xbe);

    /// The distinct colours of a plot, in the order in which they are used.
    pub(super) const ALL: [Color; 8] = [
        Color::BLUE,
        Color::RED,
        Color::GREEN,
        Color::PURPLE,
        Color::ORANGE,
        Color::SKY,
        Color::BLACK,
        Color::GREY,
    ];

    /// As CSS has it.
    pub(super) fn css(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }

    fn rgb(self) -> RGBColor {
        RGBColor(self.0, self.1, self.2)
    }
}

/// One axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<f64>,
    /// Whether distances are ratios; `from` is above 0 then.
    pub(super) is_log: bool,
    /// How a tick is written.
    pub(super) format: fn(f64) -> String,
}

impl Axis {
    /// From 0 to a round number a little above `max`, so that no line lies on the frame.
    pub(super) fn from_zero(label: &str, max: f64, format: fn(f64) -> String) -> Axis {
        let max = drawable(max);
        let step = round_step(max / TICKS);
        let to = (max * 1.02 / step).ceil() * step;
        Axis {
            to,
            ..Axis::between(label, 0.0, to, step, format)
        }
    }

    /// From 0 to exactly `max`.
    pub(super) fn to_end(label: &str, max: f64, format: fn(f64) -> String) -> Axis {
        let max = drawable(max);
        Axis::between(label, 0.0, max, round_step(max / (2.0 * TICKS)), format)
    }

    fn between(label: &str, from: f64, to: f64, step: f64, format: fn(f64) -> String) -> Axis {
        let ticks = (0..TICKS_MAX).map(|n| from + n as f64 * step);
        Axis {
            label: label.to_owned(),
            from,
            to,
            ticks: ticks
                .take_while(|tick| *tick <= to * (1.0 + 1e-9))
                .collect(),
            is_log: false,
            format,
        }
    }

    /// Ratios, from a round number not above `min` to one not below `max`.
    pub(super) fn log(label: &str, min: f64, max: f64, format: fn(f64) -> String) -> Axis {
        let min = drawable(min);
        let max = drawable(max).max(min * 1.001);
        let rounds = |decade: i32| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade));
        let (low, high) = (min.log10().floor() as i32, max.log10().ceil() as i32);
        let mut ends: Vec<f64> = (low..=high).flat_map(rounds).collect();
        let below = |value: f64, limit: f64| value <= limit * (1.0 + 1e-9);
        let is_decade = |tick: f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
        let decades_only = (max / min).log10() > 2.8;
        ends.retain(|tick| !decades_only || is_decade(*tick));
        let from = ends.iter().copied().rfind(|tick| below(*tick, min));
        let to = ends.iter().copied().find(|tick| below(max, *tick));
        let (from, to) = (from.unwrap_or(min), to.unwrap_or(max));
        Axis {
            label: label.to_owned(),
            from,
            to,
            ticks: ends
                .into_iter()
                .filter(|tick| below(from, *tick) && below(*tick, to))
                .take(TICKS_MAX)
                .collect(),
            is_log: true,
            format,
        }
    }

    /// Where a value is on the axis, as a distance; values outside are at its ends.
    fn place(&self, value: f64) -> f64 {
        let value = value.clamp(self.from, self.to);
        if self.is_log { value.log10() } else { value }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (from, to) = (self.place(self.from), self.place(self.to));
        let share = (self.place(*value) - from) / (to - from);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

/// A number that an axis can reach to: above 0, and far from where numbers end.
fn drawable(value: f64) -> f64 {
    if value > 0.0 {
        value.clamp(1e-9, 1e18)
    } else {
        1.0
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|digit| digit * decade >= step * (1.0 - 1e-9));
    digit.unwrap_or(10.0) * decade
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A line of this width, in pixels of the page.
    Line(u32),
    /// A filled area on top of those before it.
    Area,
}

/// Something drawn in one colour.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Its name in the legend; without one it belongs to the series before it.
    pub(super) name: Option<String>,
    pub(super) color: Color,
    pub(super) shape: Shape,
    /// Absent where there is nothing to draw; areas take that for 0.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// A sentence below the title; empty for none.
    pub(super) note: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
    /// Height in pixels of the page.
    pub(super) height: u32,
}

impl Chart {
    /// The plot as an `svg` element.
    pub(super) fn svg(&self) -> Result<String, ReportError> {
        let mut svg = String::new();
        self.draw(&mut svg)
            .map_err(|error| ReportError::Draw(error.to_string()))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), DrawError> {
        let (x, y) = (&self.x, &self.y);
        let text = |gray| {
            (FONT, FONT_SIZE)
                .into_font()
                .color(&RGBColor(gray, gray, gray))
        };
        let root = SVGBackend::with_string(svg, (WIDTH, self.height * 2)).into_drawing_area();
        {
            let mut plot = ChartBuilder::on(&root)
                .margin_top(24)
                .margin_right(36)
                .x_label_area_size(BOTTOM)
                .y_label_area_size(LEFT)
                .build_cartesian_2d(x.clone(), y.clone())?;
            plot.configure_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(stroke(Color(0xe3, 0xe6, 0xea), 2))
                .axis_style(stroke(Color(0x6b, 0x72, 0x7a), 2))
                .label_style(text(0x33))
                .axis_desc_style(text(0x33))
                .x_desc(&x.label)
                .y_desc(&y.label)
                .x_label_formatter(&|tick| (x.format)(*tick))
                .y_label_formatter(&|tick| (y.format)(*tick))
                .draw()?;
            let mut floor: Vec<f64> = Vec::new();
            for series in &self.series {
                match series.shape {
                    Shape::Area => {
                        let area = self.area(series, &mut floor);
                        let style = series.color.rgb().mix(0.85).filled();
                        plot.draw_series([Polygon::new(area, style)])?;
                    }
                    Shape::Line(width) => {
                        let style = stroke(series.color, width * 2);
                        let pieces = self.pieces(series).into_iter();
                        plot.draw_series(pieces.map(|piece| PathElement::new(piece, style)))?;
                    }
                }
            }
        }
        root.present()?;
        drop(root);
        Ok(())
    }

    /// A polygon between `floor`, the sum of the series below, and the sum with this series.
    fn area(&self, series: &Series, floor: &mut Vec<f64>) -> Vec<(f64, f64)> {
        floor.resize(series.points.len(), 0.0);
        let points = series.points.iter();
        let below = points.clone().zip(&*floor);
        let below: Vec<_> = below.map(|((x, _), floor)| (*x, *floor)).collect();
        for (floor, (_, y)) in floor.iter_mut().zip(points.clone()) {
            *floor += y.unwrap_or(0.0);
        }
        let above = points.zip(&*floor).map(|((x, _), top)| (*x, *top));
        above.chain(below.into_iter().rev()).collect()
    }

    /// A line without its gaps. A point between two gaps becomes a line of some length, to be seen.
    fn pieces(&self, series: &Series) -> Vec<Vec<(f64, f64)>> {
        let reach = (self.x.to - self.x.from) * 0.002;
        let mut pieces: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
        for (x, y) in &series.points {
            match (y, pieces.last_mut()) {
                (Some(y), Some(piece)) => piece.push((*x, *y)),
                _ => pieces.push(Vec::new()),
            }
        }
        for piece in &mut pieces {
            if let [(x, y)] = piece[..] {
                *piece = vec![(x - reach, y), (x + reach, y)];
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

/// Values as dots on a line from `from` to `to`, `median` as a bar: a plot for a table's cell.
pub(super) fn strip(
    values: &[f64],
    median: f64,
    (from, to): (f64, f64),
    color: Color,
) -> Result<String, ReportError> {
    const SIZE: (u32, u32) = (360, 40);
    const MARGIN: f64 = 16.0;
    let room = f64::from(SIZE.0) - 2.0 * MARGIN;
    let place = |value: f64| {
        // Where all are the same, in the middle.
        let share = (value - from) / (to - from);
        let share = if share.is_finite() { share } else { 0.5 };
        (MARGIN + share.clamp(0.0, 1.0) * room).round() as i32
    };
    let mut svg = String::new();
    let draw = |svg: &mut String| -> Result<(), DrawError> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let line = vec![(0, 20), (SIZE.0 as i32, 20)];
        root.draw(&PathElement::new(line, stroke(Color::GREY, 2)))?;
        let bar = vec![(place(median), 3), (place(median), 37)];
        root.draw(&PathElement::new(bar, stroke(color, 5)))?;
        for value in values {
            let style = color.rgb().mix(0.6).filled();
            root.draw(&Circle::new((place(*value), 20), 9, style))?;
        }
        root.present()
    };
    draw(&mut svg).map_err(|error| ReportError::Draw(error.to_string()))?;
    Ok(svg)
}

fn stroke(color: Color, width: u32) -> ShapeStyle {
    color.rgb().stroke_width(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: f64) -> String {
        format!("{value}")
    }

    #[test]
    fn linear_ticks_are_round_and_reach_the_end() {
        let axis = Axis::from_zero("", 8_730.0, plain);
        assert_eq!(
            axis.ticks,
            [0.0, 2_000.0, 4_000.0, 6_000.0, 8_000.0, 10_000.0]
        );
        assert_eq!(axis.to, 10_000.0);
        let axis = Axis::to_end("", 30.2, plain);
        assert_eq!((axis.to, axis.ticks.len()), (30.2, 7));
    }

    #[test]
    fn log_ticks_are_round_and_hold_all_values() {
        let axis = Axis::log("", 130.0, 7_000.0, plain);
        assert_eq!((axis.from, axis.to), (100.0, 10_000.0));
        assert_eq!(axis.ticks, [100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4]);
        let wide = Axis::log("", 1.0, 1e6, plain);
        assert_eq!(wide.ticks, [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]);
    }

    #[test]
    fn a_log_axis_gives_equal_ratios_equal_room() {
        let places = |axis: Axis| [1.0, 10.0, 100.0].map(|value| axis.map(&value, (0, 100)));
        assert_eq!(places(Axis::log("", 1.0, 100.0, plain)), [0, 50, 100]);
        assert_eq!(places(Axis::to_end("", 100.0, plain)), [1, 10, 100]);
    }

    #[test]
    fn a_strip_shows_equal_values() {
        let circles = |values: &[f64], range| {
            let svg = strip(values, 1.0, range, Color::BLUE).unwrap();
            let document = roxmltree::Document::parse(&svg).unwrap();
            let circles = document
                .descendants()
                .filter(|node| node.has_tag_name("circle"));
            circles
                .filter_map(|node| node.attribute("cx")?.parse().ok())
                .collect::<Vec<i32>>()
        };
        assert_eq!(circles(&[1.0, 1.0], (1.0, 1.0)), [180, 180]);
        assert_eq!(circles(&[0.0, 1.0, 2.0], (0.0, 2.0)), [16, 180, 344]);
    }

    #[test]
    fn no_number_makes_an_axis_without_end_or_order() {
        for value in [0.0, -1.0, 1e-300, 1e300, f64::MAX, f64::MIN_POSITIVE] {
            for axis in [
                Axis::from_zero("", value, plain),
                Axis::to_end("", value, plain),
                Axis::log("", value, value, plain),
                Axis::log("", 1e-9, value, plain),
            ] {
                assert!(axis.ticks.len() <= TICKS_MAX, "{axis:?}");
                assert!(axis.from < axis.to && axis.to.is_finite(), "{axis:?}");
            }
        }
    }

    fn chart(series: Vec<Series>) -> Chart {
        Chart {
            title: "",
            note: String::new(),
            x: Axis::to_end("<&\"'>", 10.0, plain),
            y: Axis::from_zero("y", 10.0, plain),
            series,
            height: 200,
        }
    }

    fn line(points: Vec<(f64, Option<f64>)>) -> Series {
        Series {
            name: None,
            color: Color::BLUE,
            shape: Shape::Line(2),
            points,
        }
    }

    #[test]
    fn gaps_break_lines_and_lone_points_are_drawn() {
        let points = vec![
            (1.0, Some(1.0)),
            (2.0, Some(2.0)),
            (3.0, None),
            (4.0, Some(3.0)),
            (5.0, None),
        ];
        let chart = chart(vec![line(points)]);
        let pieces = chart.pieces(&chart.series[0]);
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn areas_stand_on_each_other() {
        let mut floor = Vec::new();
        let chart = chart(Vec::new());
        let area = line(vec![(0.0, Some(1.0)), (10.0, Some(2.0))]);
        assert_eq!(
            chart.area(&area, &mut floor),
            [(0.0, 1.0), (10.0, 2.0), (10.0, 0.0), (0.0, 0.0)]
        );
        assert_eq!(
            chart.area(&area, &mut floor),
            [(0.0, 2.0), (10.0, 4.0), (10.0, 2.0), (0.0, 1.0)]
        );
    }

    #[test]
    fn a_plot_is_well_formed_whatever_its_labels_and_numbers() {
        let wild = vec![(-1e300, Some(1e300)), (5.0, Some(-3.0)), (1e300, Some(0.0))];
        let svg = chart(vec![line(wild)]).svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let texts: Vec<_> = document
            .descendants()
            .filter_map(|node| node.text())
            .collect();
        assert!(
            texts.iter().any(|text| text.trim() == "<&\"'>"),
            "{texts:?}"
        );
    }
}
