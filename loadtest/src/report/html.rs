//! Parts of both pages: the style sheet, figures with legends, tables of exact numbers.

use super::chart::{Chart, Shape};
use super::input::ReportError;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The whole file. Nothing in it is loaded from anywhere, and nothing runs: the policy says so to
/// the browser too.
pub(super) fn sheet(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body { (body) }
        }
    }
}

/// A plot with its title and legend.
pub(super) fn figure(chart: &Chart) -> Result<Markup, ReportError> {
    let svg = PreEscaped(chart.svg()?);
    let named = || {
        chart
            .series
            .iter()
            .filter_map(|series| Some((series.name.as_ref()?, series)))
    };
    Ok(html! {
        figure {
            figcaption {
                h3 { (chart.title) }
                @if !chart.note.is_empty() { p { (chart.note) } }
                @if named().next().is_some() {
                    ul.legend {
                        @for (name, series) in named() {
                            li {
                                span.area[series.shape == Shape::Area]
                                    style=(format!("background:{}", series.color.css())) {}
                                (name)
                            }
                        }
                    }
                }
            }
            (svg)
        }
    })
}

/// A number as people read it, with the exact one beside it for programs.
pub(super) fn number(exact: f64, text: &str) -> Markup {
    html! { data value=(exact) { (text) } }
}

/// A table of names and values.
pub(super) fn facts(rows: &[(String, Markup)]) -> Markup {
    html! {
        table.facts {
            tbody {
                @for (name, value) in rows {
                    tr { th scope="row" { (name) } td { (value) } }
                }
            }
        }
    }
}

/// How good news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Bad,
    Doubtful,
}

/// A finding with its mood, as a sign and a colour.
pub(super) fn finding(mood: Mood, text: &str) -> Markup {
    let (class, sign) = match mood {
        Mood::Good => ("good", "✓"),
        Mood::Bad => ("bad", "✗"),
        Mood::Doubtful => ("doubtful", "?"),
    };
    // A number stays on one line with its unit.
    let text = text.replace(" %", "\u{a0}%");
    html! { li class=(class) { span.sign { (sign) } (text) } }
}

/// A number that is to be seen first.
pub(super) fn tile(name: &str, value: &Markup, below: &str) -> Markup {
    html! {
        div.tile {
            div.name { (name) }
            div.value { (value) }
            @if !below.is_empty() { div.below { (below) } }
        }
    }
}
