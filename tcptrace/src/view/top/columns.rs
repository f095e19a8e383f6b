//! Which columns fit, and what is in them.

use unicode_width::UnicodeWidthStr;

use super::rows::{Key, Row, cgroup, container, pod, state, who};
use crate::{
    engine::{group::GroupBy, record::BootNs},
    prose::{stacks, time::human},
    view::text::safe,
};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Age of the oldest.
    Age,
    /// How many.
    Count,
    /// Growth in a minute.
    Growth,
    /// State.
    State,
    /// Verdict.
    Verdict,
    /// Process.
    Holder,
    /// Container.
    Container,
    /// Kubernetes pod.
    Pod,
    /// Cgroup.
    Cgroup,
    /// Descriptors used of the limit.
    Descriptors,
    /// When it has none left.
    Full,
    /// Local end.
    Local,
    /// Remote end.
    Remote,
    /// Bytes not read.
    RecvQ,
    /// Bytes not acknowledged.
    SendQ,
    /// Where in the program's code it was opened.
    OpenedIn,
}

use Column::{
    Age, Cgroup, Container, Count, Descriptors, Full, Growth, Holder, Local, OpenedIn, Pod, RecvQ,
    Remote, SendQ, State, Verdict,
};

/// From left to right.
const ORDER: [Column; 16] = [
    Age,
    Count,
    Growth,
    State,
    Verdict,
    Holder,
    OpenedIn,
    Container,
    Pod,
    Cgroup,
    Descriptors,
    Full,
    Local,
    Remote,
    RecvQ,
    SendQ,
];
/// What groups have, the most important first.
const GROUPS: [Column; 14] = [
    Count,
    Age,
    Holder,
    Verdict,
    OpenedIn,
    Descriptors,
    Full,
    Growth,
    Local,
    Remote,
    Container,
    State,
    RecvQ,
    SendQ,
];
/// What single sockets have.
const SOCKETS: [Column; 11] =
    [Age, Holder, Verdict, OpenedIn, Local, Remote, State, Container, RecvQ, SendQ, Descriptors];

impl Column {
    /// What stands above it.
    #[must_use]
    pub const fn head(self) -> &'static str {
        match self {
            Age => "AGE",
            Count => "COUNT",
            Growth => "/MIN",
            State => "STATE",
            Verdict => "VERDICT",
            Holder => "HOLDER",
            Container => "CONTAINER",
            Pod => "POD",
            Cgroup => "CGROUP",
            Descriptors => "FDS",
            Full => "FULL IN",
            Local => "LOCAL",
            Remote => "REMOTE",
            RecvQ => "RECV-Q",
            SendQ => "SEND-Q",
            OpenedIn => "OPENED IN",
        }
    }

    /// Numbers stand at the right.
    #[must_use]
    pub const fn is_number(self) -> bool {
        matches!(self, Age | Count | Growth | Descriptors | Full | RecvQ | SendQ)
    }

    /// Cut to this, it still says something; `None`: it is never cut.
    const fn least(self) -> Option<usize> {
        match self {
            Holder | Container | Pod | Cgroup | OpenedIn => Some(10),
            Local | Remote => Some(12),
            _ => None,
        }
    }

    /// No wider than this.
    const fn most(self) -> usize {
        match self {
            Holder | OpenedIn => 36,
            Container => 14,
            Cgroup => 32,
            _ => 48,
        }
    }

    /// Its text in a row. Nothing in it steers a terminal.
    #[must_use]
    pub fn cell(self, row: &Row, now: BootNs) -> String {
        match self {
            Age => {
                let age = row.oldest.age(now);
                let least = if age.is_exact() { "" } else { ">" };
                format!("{least}{}", human(age.min_ns))
            }
            Count => row.count.to_string(),
            Growth if row.growth > 0 => format!("+{}", row.growth),
            Growth => row.growth.to_string(),
            State => state(row).to_owned(),
            Verdict => verdict(row),
            Holder => safe(&who(row)).into_owned(),
            Container => container(&row.oldest)
                .map_or_else(|| "-".to_owned(), |id| safe(id.get(..12).unwrap_or(id)).into_owned()),
            Pod => pod(&row.oldest).map_or_else(|| "-".to_owned(), |uid| safe(uid).into_owned()),
            Cgroup => {
                cgroup(&row.oldest).map_or_else(|| "-".to_owned(), |path| safe(path).into_owned())
            }
            Descriptors => match row.descriptors {
                Some((used, Some(limit))) => format!("{used}/{limit}"),
                Some((used, None)) => used.to_string(),
                None => "-".to_owned(),
            },
            Full => match row.full.map(|full| full.left(now)) {
                Some(left) if left.max == 0 => "now".to_owned(),
                Some(left) => format!("~{}", human(left.est)),
                None => "-".to_owned(),
            },
            Local => match &row.key {
                Key::Listener(Some(listener)) => listener.to_string(),
                Key::Listener(None) => "none".to_owned(),
                _ => row.local.text(),
            },
            Remote => row.remote.text(),
            RecvQ => row.recv_q.to_string(),
            SendQ => row.send_q.to_string(),
            OpenedIn => opened_in(row).unwrap_or_else(|| "-".to_owned()),
        }
    }
}

/// Where the oldest was opened: the innermost call that is the program's own.
fn opened_in(row: &Row) -> Option<String> {
    let (_, moment) = row.oldest.origins.as_deref()?.opened.as_ref()?;
    let frame = moment.stack.as_ref().ok()?.own()?;
    Some(safe(&stacks::frame(frame)).into_owned())
}

/// The most frequent one, and how many others there are.
fn verdict(row: &Row) -> String {
    let verdicts = row.verdicts();
    match verdicts.split_first() {
        None => "-".to_owned(),
        Some(((first, _), [])) => first.name().to_owned(),
        Some(((first, _), more)) => format!("{} +{}", first.name(), more.len()),
    }
}

/// The columns that fit into `width`, from left to right, and how wide each is for these rows.
#[must_use]
pub fn fitting(
    rows: &[Row],
    by: Option<GroupBy>,
    width: usize,
    now: BootNs,
) -> Vec<(Column, usize)> {
    let usual: &[Column] = if by.is_none() { &SOCKETS } else { &GROUPS };
    // What rows have in common comes first.
    let common = match by {
        Some(GroupBy::Verdict) => Verdict,
        Some(GroupBy::Remote) => Remote,
        Some(GroupBy::Listener) => Local,
        Some(GroupBy::Container) => Container,
        Some(GroupBy::Pod) => Pod,
        Some(GroupBy::Cgroup) => Cgroup,
        Some(GroupBy::Holder) => Holder,
        None => Age,
    };
    let rest = usual.iter().copied().filter(|column| *column != common);
    let (mut fits, mut left) = (Vec::new(), width);
    for column in std::iter::once(common).chain(rest) {
        let cells: Vec<String> = rows.iter().map(|row| column.cell(row, now)).collect();
        let may_be_empty = matches!(column, Container | OpenedIn | Full) && column != common;
        if may_be_empty && cells.iter().all(|cell| cell == "-") {
            continue;
        }
        let widest = cells.iter().map(|cell| cell.width()).max().unwrap_or(0);
        let wanted = widest.min(column.most()).max(column.head().width());
        let space = usize::from(!fits.is_empty());
        let room = left.saturating_sub(space);
        let given = match column.least() {
            _ if wanted <= room => wanted,
            Some(least) if least <= room => room,
            _ if fits.is_empty() => room,
            _ => continue,
        };
        fits.push((column, given));
        left = room - given;
    }
    fits.sort_by_key(|(column, _)| ORDER.iter().position(|c| c == column));
    fits
}

#[cfg(test)]
mod tests {
    use super::{
        super::{rows::group, tests::sockets},
        *,
    };

    /// How full a process is says more than where its leaks lead.
    #[test]
    fn descriptors_fit_before_ends_do() {
        let by = Some(GroupBy::Holder);
        let mut rows = group(sockets().iter(), std::iter::empty(), by, 0);
        rows[0].descriptors = Some((16_706, Some(20_000)));
        let columns: Vec<Column> =
            fitting(&rows, by, 72, 0).into_iter().map(|(column, _)| column).collect();
        assert!(columns.contains(&Descriptors) && !columns.contains(&Local), "{columns:?}");
    }
}
