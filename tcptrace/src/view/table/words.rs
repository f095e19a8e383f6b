//! Words and widths of the table.

use unicode_width::UnicodeWidthStr;

use crate::{
    engine::{
        record::{Age, ClosedBy, Holder, HolderSource, Record},
        update::Lost,
    },
    prose::{reasons, time::human},
    view::text::safe,
};

/// `java[4711] fd 12`, several separated by commas; for a connection that waits, its listener.
pub fn who(r: &Record) -> String {
    match r.holder_source {
        HolderSource::Listener => {
            let names: Vec<String> = r.holders.iter().map(process).collect();
            let queue = r
                .listener
                .as_ref()
                .map(|l| format!(" queue {}/{}", l.queue, l.limit))
                .unwrap_or_default();
            format!("listener {}{queue}", names.join(", "))
        }
        HolderSource::OutsideFdTables => "held outside descriptor tables".to_owned(),
        _ if r.holders.is_empty() => {
            r.unknown.get("holders").map_or("nobody", reasons::words).to_owned()
        }
        _ => r
            .holders
            .iter()
            .map(|h| format!("{} fd {}", process(h), h.fd))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

pub fn process(h: &Holder) -> String {
    format!("{}[{}]", safe(&h.comm), h.process.pid)
}

pub fn closer(c: &ClosedBy) -> String {
    format!("closed by {}[{}]", safe(&c.comm), c.pid)
}

pub fn detail(r: &Record) -> String {
    let mut parts = Vec::new();
    if let Some(role) = r.role {
        parts.push(role.name().to_owned());
    }
    if let Some(n) = r.evidence.recv_q {
        parts.push(format!("recv-q {n}"));
    }
    if let Some(n) = r.evidence.send_q.filter(|n| *n > 0) {
        parts.push(format!("send-q {n}"));
    }
    parts.extend(r.also.iter().map(|v| v.name().to_owned()));
    parts.join(" ")
}

pub fn lost_text(lost: &Lost) -> String {
    let kinds = lost.named().into_iter().filter(|(_, n)| *n > 0);
    kinds.map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

/// `5.0s`, or for an interval `>5.0s` (what is certain).
pub fn age_text(age: &Age) -> String {
    if age.is_exact() { human(age.min_ns) } else { format!(">{}", human(age.min_ns)) }
}

/// Pads to `width` columns, with at least one space.
pub fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width()).max(1)))
}

/// Cuts to `width` columns, and says so with an ellipsis.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        let mut next = out.clone();
        next.push(c);
        if next.width() + 1 > width {
            break;
        }
        out = next;
    }
    out + "…"
}
