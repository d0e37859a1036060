//! The figure: time and cost against the number of nodes.

use std::fmt::Write as _;

use crate::{
    figures::Figures,
    scenarios::{Kind, Scenario},
};

const WIDTH: f64 = 920.0;
const PANEL: f64 = 340.0;
const HEIGHT: f64 = 230.0;
const TOP: f64 = 92.0;

struct Line {
    name: &'static str,
    colour: &'static str,
    kind: Kind,
    value: fn(&Figures) -> Option<f64>,
}

const TIMES: [Line; 3] = [
    Line {
        name: "99% know by then",
        colour: "#b2182b",
        kind: Kind::FlashCrowd,
        value: |it| it.time(99.0),
    },
    Line {
        name: "95%",
        colour: "#e08214",
        kind: Kind::FlashCrowd,
        value: |it| it.time(95.0),
    },
    Line {
        name: "half",
        colour: "#1b7837",
        kind: Kind::FlashCrowd,
        value: |it| it.time(50.0),
    },
];
const COSTS: [Line; 2] = [
    Line {
        name: "dial data, kB",
        colour: "#762a83",
        kind: Kind::Steady,
        value: |it| Some(it.kb_an_hour),
    },
    Line {
        name: "requests",
        colour: "#2166ac",
        kind: Kind::Steady,
        value: |it| Some(it.requests_an_hour),
    },
];

pub(crate) fn series(series: &[(Scenario, Figures)], share: f64) -> String {
    let mut body = String::new();
    let title = "flash crowd: seconds to a verdict";
    panel(&mut body, 60.0, title, &TIMES, series);
    let title = "steady state: cost of a node in an hour";
    panel(&mut body, 60.0 + PANEL + 110.0, title, &COSTS, series);
    let percent = 100.0 * share;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{}" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/><text x="16" y="28" font-size="17">Time and cost against the number of nodes</text><text x="16" y="48" fill="#555">{percent}% of the nodes are servers; both axes are logarithmic.</text>
{body}</svg>
"##,
        TOP + HEIGHT + 50.0
    )
}

fn panel(
    body: &mut String,
    left: f64,
    title: &str,
    lines: &[Line],
    series: &[(Scenario, Figures)],
) {
    let (bottom, right) = (TOP + HEIGHT, left + PANEL - 60.0);
    let _ = writeln!(
        body,
        r##"<text x="{left}" y="{:.0}" font-weight="bold">{title}</text>"##,
        TOP - 12.0
    );
    let of_line = |line: &Line| -> Vec<(f64, f64)> {
        let points = series.iter().filter(|(it, _)| it.kind == line.kind);
        let points = points.filter_map(|(_, it)| Some((it.nodes as f64, (line.value)(it)?)));
        points.filter(|(_, value)| *value > 0.0).collect()
    };
    let all: Vec<(f64, f64)> = lines.iter().flat_map(of_line).collect();
    let range = |values: Vec<f64>| {
        let first = values
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min)
            .log10()
            .floor();
        let last = values.iter().copied().fold(0.0, f64::max).log10().ceil();
        (first, last.max(first + 1.0))
    };
    let (x0, x1) = range(all.iter().map(|(nodes, _)| *nodes).collect());
    let (y0, y1) = range(all.iter().map(|(_, value)| *value).collect());
    let x = |nodes: f64| left + (right - left) * (nodes.log10() - x0) / (x1 - x0);
    let y = |value: f64| bottom - HEIGHT * (value.log10() - y0) / (y1 - y0);
    for exponent in x0 as i32..=x1 as i32 {
        let at = x(10f64.powi(exponent));
        let nodes = 10f64.powi(exponent);
        let _ = writeln!(
            body,
            r##"<path d="M{at:.1} {TOP}V{bottom}" stroke="#ddd"/><text x="{at:.1}" y="{:.0}" text-anchor="middle" fill="#555">{nodes}</text>"##,
            bottom + 18.0
        );
    }
    for exponent in y0 as i32..=y1 as i32 {
        let value = 10f64.powi(exponent);
        let at = y(value);
        let _ = writeln!(
            body,
            r##"<path d="M{left} {at:.1}H{right}" stroke="#ddd"/><text x="{:.0}" y="{:.1}" text-anchor="end" fill="#555">{value}</text>"##,
            left - 6.0,
            at + 4.0
        );
    }
    for line in lines {
        let points = of_line(line);
        let path = points
            .iter()
            .map(|(nodes, value)| format!("{:.1},{:.1}", x(*nodes), y(*value)));
        let path: Vec<String> = path.collect();
        let colour = line.colour;
        let _ = writeln!(
            body,
            r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"##,
            path.join(" ")
        );
        for (nodes, value) in &points {
            let _ = writeln!(
                body,
                r##"<circle cx="{:.1}" cy="{:.1}" r="4" fill="{colour}"/>"##,
                x(*nodes),
                y(*value)
            );
        }
        if let Some((nodes, value)) = points.last() {
            let (at, up, name) = (x(*nodes) + 9.0, y(*value) + 4.0, line.name);
            let _ = writeln!(
                body,
                r##"<text x="{at:.1}" y="{up:.1}" fill="{colour}">{name}: {value:.1}</text>"##
            );
        }
    }
}
