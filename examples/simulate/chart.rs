//! The figures: how often each policy is wrong, and whether the crate's confidence is true.

use std::fmt::Write as _;

use crate::{
    figures::{Figures, Share},
    history::Claim,
    policies::Policy,
    report::Results,
};

const WIDTH: f64 = 920.0;

type ShareOf = fn(&Figures) -> Share;

fn svg(height: f64, title: &str, subtitle: &str, body: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/><text x="16" y="28" font-size="17">{title}</text><text x="16" y="48" fill="#555">{subtitle}</text>
{body}</svg>
"##
    )
}

fn colour(policy: Policy) -> &'static str {
    match policy {
        Policy::Ours => "#1b7837",
        Policy::FirstProbe => "#d6604d",
        Policy::NetCount => "#e08214",
        Policy::Segments => "#4393c3",
        Policy::Oracle => "#000000",
    }
}

/// A dot for each policy on a line for each scenario: the share of verdicts that are wrong, or that never came.
pub(crate) fn wrong(all: &[Results]) -> String {
    const LEFT: f64 = 130.0;
    const RIGHT: f64 = 640.0;
    const LINE: f64 = 24.0;
    const GRID: [f64; 6] = [0.1, 1.0, 5.0, 20.0, 50.0, 100.0];
    // A root, so that 0.1% and 50% are both told apart from nothing.
    let x = |percent: f64| LEFT + (RIGHT - LEFT) * (percent / 100.0).powf(1.0 / 3.0);
    let mut body = String::new();
    let mut at = 16.0;
    for policy in Policy::ALL {
        let (name, colour) = (policy.name(), colour(policy));
        let _ = write!(
            body,
            r##"<circle cx="{:.0}" cy="68" r="6" fill="{colour}"/>"##,
            at + 6.0
        );
        let _ = writeln!(body, r##"<text x="{:.0}" y="73">{name}</text>"##, at + 17.0);
        at += 42.0 + 7.2 * name.len() as f64;
    }
    let mut y = 104.0;
    for results in all {
        let name = results.scenario.name;
        let _ = writeln!(
            body,
            r##"<text x="16" y="{y}" font-weight="bold">{name}</text>"##
        );
        y += 20.0;
        let rows: [(&str, ShareOf); 2] = [
            ("first verdict", |it| it.first_wrong.or(it.without_verdict)),
            ("at the end", |it| it.wrong_at_end.or(it.without_verdict)),
        ];
        for (what, share) in rows {
            let _ = writeln!(
                body,
                r##"<text x="{:.0}" y="{:.0}" text-anchor="end">{what}</text>"##,
                LEFT - 10.0,
                y + 4.0
            );
            let _ = writeln!(body, r##"<path d="M{LEFT} {y}H{RIGHT}" stroke="#bbb"/>"##);
            for percent in GRID {
                let _ = write!(
                    body,
                    r##"<path d="M{:.1} {:.0}v8" stroke="#bbb"/>"##,
                    x(percent),
                    y - 4.0
                );
            }
            let percent = |policy| {
                let figures: Option<&Figures> = results.of(policy);
                figures.and_then(|it| share(it).percent())
            };
            for policy in Policy::ALL.into_iter().rev() {
                if let Some(percent) = percent(policy) {
                    let radius = if policy == Policy::Ours { 7 } else { 5 };
                    let _ = writeln!(
                        body,
                        r##"<circle cx="{:.1}" cy="{y}" r="{radius}" fill="{}" fill-opacity="0.85"/>"##,
                        x(percent),
                        colour(policy)
                    );
                }
            }
            let (told, fill) = told(&percent);
            let _ = writeln!(
                body,
                r##"<text x="{:.0}" y="{:.0}" fill="{fill}">{told}</text>"##,
                RIGHT + 14.0,
                y + 4.0
            );
            y += LINE;
        }
        y += 14.0;
    }
    for percent in GRID {
        let _ = writeln!(
            body,
            r##"<text x="{:.1}" y="{y}" text-anchor="middle" fill="#555">{percent}%</text>"##,
            x(percent)
        );
    }
    svg(
        y + 16.0,
        "Wrong verdicts, and verdicts that never came",
        "A share of all addresses; further left is better. Red: a policy that does not know the rates is better than this crate.",
        &body,
    )
}

/// Our share in words, and the best of the others' where that is better.
fn told(percent: &impl Fn(Policy) -> Option<f64>) -> (String, &'static str) {
    let ours = percent(Policy::Ours).unwrap_or(0.0);
    let others = [Policy::FirstProbe, Policy::NetCount, Policy::Segments];
    let best = others
        .into_iter()
        .filter_map(|policy| Some((percent(policy)?, policy)))
        .min_by(|(a, _), (b, _)| a.total_cmp(b));
    match best.filter(|(theirs, _)| *theirs < ours) {
        Some((theirs, policy)) => (
            format!("{ours:.2}%; {}: {theirs:.2}%", policy.name()),
            "#b2182b",
        ),
        None => (format!("{ours:.2}%"), "#1b7837"),
    }
}

/// Reliability diagrams: what is stated across, what is right upwards. Of the scenarios where nodes differ: where all are
/// behind the same NAT, who does not know that can't be right in the mean.
pub(crate) fn calibration(all: &[Results]) -> String {
    const SIDE: f64 = 160.0;
    const STEP: f64 = 222.0;
    let claims = [
        (Claim::Independent, "#1b7837"),
        (Claim::Contacted, "#7fbf7b"),
        (Claim::Filtered, "#e08214"),
        (Claim::Unreachable, "#762a83"),
    ];
    let mut body = String::new();
    let mut at = 16.0;
    for (claim, colour) in claims {
        let name = claim.as_str();
        let _ = write!(
            body,
            r##"<circle cx="{:.0}" cy="68" r="6" fill="{colour}"/>"##,
            at + 6.0
        );
        let _ = writeln!(body, r##"<text x="{:.0}" y="73">{name}</text>"##, at + 17.0);
        at += 42.0 + 7.2 * name.len() as f64;
    }
    let differing = all.iter().filter(|it| it.scenario.recipe.nats.len() > 1);
    let panels = differing.flat_map(|results| {
        [Policy::Ours, Policy::Oracle]
            .into_iter()
            .filter_map(|policy| {
                let title = format!("{}, {}", results.scenario.key, policy.name());
                Some((title, &results.of(policy)?.standing))
            })
    });
    for (i, (title, standing)) in panels.enumerate() {
        let (left, top) = (44.0 + STEP * i as f64, 118.0);
        let bottom = top + SIDE;
        let (x, y) = (
            |share: f64| left + SIDE * share,
            |share: f64| bottom - SIDE * share,
        );
        let _ = writeln!(
            body,
            r##"<text x="{left:.0}" y="{:.0}">{}</text><rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/><path d="M{left} {bottom}L{:.0} {top}" stroke="#bbb"/>"##,
            top - 8.0,
            title,
            left + SIDE,
        );
        for share in [0.0, 0.5, 1.0] {
            let percent = format!("{:.0}%", 100.0 * share);
            let _ = write!(
                body,
                r##"<text x="{:.0}" y="{:.0}" text-anchor="middle" fill="#555" font-size="11">{percent}</text>"##,
                x(share),
                bottom + 15.0
            );
            let _ = writeln!(
                body,
                r##"<text x="{:.0}" y="{:.0}" text-anchor="end" fill="#555" font-size="11">{percent}</text>"##,
                left - 4.0,
                y(share) + 4.0
            );
        }
        let all: u64 = standing.bins().map(|(_, bin)| bin.statements).sum();
        for (claim, bin) in standing.bins() {
            let colour = claims.iter().find(|(it, _)| *it == claim);
            // The area tells how many statements there are; what is too rare to be seen is drawn all the same.
            let radius = (250.0 * bin.statements as f64 / all as f64).sqrt().max(1.5);
            let _ = writeln!(
                body,
                r##"<circle cx="{:.1}" cy="{:.1}" r="{radius:.1}" fill="{}" fill-opacity="0.6"/>"##,
                x(bin.stated()),
                y(bin.share_right()),
                colour.map_or("#000", |(_, colour)| colour)
            );
        }
        let (error, loss) = (standing.error(), standing.log_loss());
        let _ = writeln!(
            body,
            r##"<text x="{left:.0}" y="{:.0}" fill="#555">ECE {:.1} pp, log loss {:.2}</text>"##,
            bottom + 34.0,
            100.0 * error.unwrap_or(0.0),
            loss.unwrap_or(0.0)
        );
    }
    svg(
        340.0,
        "Whether the stated confidence is true",
        "Standing verdicts, every 30 s: stated probability (across) against share that is right (upwards). On the diagonal it is true; below, too bold.",
        &body,
    )
}
