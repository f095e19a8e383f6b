//! Records of sockets, put together by hand as a snapshot has tens of thousands of them; a test
//! holds them against the library's.

use super::{
    origins::{Stamps, origins},
    write::{age, end, flag, maybe, ms, number, string, text, word},
};
use crate::{
    engine::{
        normal::{Normal, PER_MILLE},
        record::{Age, BootNs, ClosedBy, Evidence, Holder, Listener, Record},
        unknown::{Reason, Unknown},
    },
    formats::container::Runtime,
    prose::reasons,
};

/// How a reported socket left its state.
pub struct End<'a> {
    /// When verdict, evidence and holders were looked at: a finished time stamp.
    pub as_of: &'a str,
    /// How long it stayed.
    pub stayed: &'a Age,
    /// By whom it was ended.
    pub closed_by: Option<&'a ClosedBy>,
    /// Why that is unknown.
    pub unknown: Reason,
}

/// Times of a line.
pub struct Stamped<'a> {
    /// Ages are as of this.
    pub now: BootNs,
    /// The same as a finished time stamp.
    pub stamp: &'a str,
    /// Those of the origins.
    pub origins: &'a Stamps,
}

/// Appends the line of a `socket` or a `stuck`, or with its end of a `resolved`.
pub fn record(
    out: &mut Vec<u8>,
    event: &str,
    times: &Stamped<'_>,
    r: &Record,
    ended: Option<&End<'_>>,
) {
    let Stamped { now, stamp: time, origins: stamps } = *times;
    let c = &r.connection;
    text(out, "{\"event\":");
    word(out, event);
    text(out, ",\"time\":");
    word(out, time);
    text(out, ",\"cookie\":");
    number(out, c.cookie);
    text(out, ",\"netns\":");
    number(out, u64::from(c.netns));
    text(out, ",\"family\":");
    number(out, u64::from(c.family()));
    text(out, ",\"local\":\"");
    end(out, c.local);
    text(out, "\",\"remote\":\"");
    end(out, c.remote);
    text(out, if c.mptcp { "\",\"protocol\":\"mptcp\"" } else { "\",\"protocol\":\"tcp\"" });
    text(out, ",\"role\":");
    maybe(out, r.role, |out, role| word(out, role.name()));
    text(out, ",\"state\":");
    word(out, r.state.name());
    text(out, ",\"age_ms\":");
    age(out, &r.age(now));
    text(out, ",\"verdict\":");
    maybe(out, r.verdict, |out, verdict| word(out, verdict.name()));
    text(out, ",\"also\":");
    list(out, &r.also, |out, verdict| word(out, verdict.name()));
    text(out, ",\"evidence\":");
    evidence(out, &r.evidence);
    text(out, ",\"holders\":");
    list(out, &r.holders, holder);
    text(out, ",\"holder_source\":");
    word(out, r.holder_source.name());
    if !r.former_holders.is_empty() {
        text(out, ",\"former_holders\":");
        list(out, &r.former_holders, holder);
    }
    text(out, ",\"listener\":");
    maybe(out, r.listener.as_ref(), listener);
    text(out, ",\"cgroup\":");
    maybe(out, r.cgroup.as_deref(), string);
    if let Some(origins) = &r.origins {
        self::origins(out, origins, stamps, now);
    }
    if r.normal.is_some() || r.unknown.get("normal").is_some() {
        text(out, ",\"normal\":");
        maybe(out, r.normal, normal);
    }
    text(out, ",\"unknown\":{");
    unknown(out, &r.unknown, ended.filter(|e| e.closed_by.is_none()).map(|e| e.unknown));
    text(out, "}");
    if let Some(ended) = ended {
        text(out, ",\"as_of\":");
        word(out, ended.as_of);
        text(out, ",\"stayed_ms\":");
        age(out, ended.stayed);
        text(out, ",\"closed_by\":");
        maybe(out, ended.closed_by, |out, closer| {
            text(out, "{\"pid\":");
            number(out, u64::from(closer.pid));
            text(out, ",\"comm\":");
            string(out, &closer.comm);
            text(out, "}");
        });
    }
    text(out, "}\n");
}

fn normal(out: &mut Vec<u8>, n: Normal) {
    text(out, "{\"below_ms\":");
    ms(out, n.below_ns);
    text(out, ",\"per_mille\":");
    number(out, PER_MILLE);
    text(out, ",\"of\":");
    number(out, n.ended);
    text(out, if n.server { ",\"at\":\"listener\"}" } else { ",\"at\":\"remote\"}" });
}

fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn small(out: &mut Vec<u8>, n: u32) {
    number(out, u64::from(n));
}

fn evidence(out: &mut Vec<u8>, e: &Evidence) {
    text(out, "{\"recv_q\":");
    maybe(out, e.recv_q, small);
    text(out, ",\"send_q\":");
    maybe(out, e.send_q, small);
    text(out, ",\"accepted\":");
    maybe(out, e.accepted, flag);
    text(out, ",\"bytes_sent_since_fin\":");
    maybe(out, e.bytes_sent_since_fin, number);
    text(out, ",\"inode\":");
    maybe(out, e.inode, number);
    text(out, ",\"keepalive\":");
    maybe(out, e.keepalive, flag);
    text(out, ",\"last_data_sent_ms\":");
    maybe(out, e.sent_ago_ns, ms);
    text(out, ",\"last_data_recv_ms\":");
    maybe(out, e.received_ago_ns, ms);
    text(out, ",\"last_ack_recv_ms\":");
    maybe(out, e.acked_ago_ns, ms);
    text(out, ",\"timer\":");
    maybe(out, e.timer, |out, timer| word(out, timer.name()));
    text(out, ",\"retransmits\":");
    maybe(out, e.retransmits.map(u32::from), small);
    text(out, ",\"probes\":");
    maybe(out, e.probes.map(u32::from), small);
    text(out, ",\"snd_wnd\":");
    maybe(out, e.snd_wnd, small);
    text(out, "}");
}

fn holder(out: &mut Vec<u8>, h: &Holder) {
    let cgroups = h.cgroups.as_deref();
    let container = cgroups.and_then(|c| c.container());
    text(out, "{\"pid\":");
    small(out, h.process.pid);
    text(out, ",\"inner_pid\":");
    maybe(out, h.inner_pid, small);
    text(out, ",\"tid\":");
    maybe(out, h.tid, small);
    text(out, ",\"fd\":");
    maybe(out, h.fd, small);
    text(out, ",\"comm\":");
    string(out, &h.comm);
    text(out, ",\"name\":");
    string(out, h.called());
    text(out, ",\"cgroup\":");
    maybe(out, cgroups.and_then(|c| c.path()), string);
    text(out, ",\"container\":");
    maybe(out, container, |out, c| string(out, &c.id));
    text(out, ",\"runtime\":");
    maybe(out, container.and_then(|c| c.runtime), |out, r: Runtime| word(out, r.name()));
    text(out, ",\"pod\":");
    maybe(out, container.and_then(|c| c.pod.as_deref()), string);
    text(out, ",\"opener\":");
    maybe(out, h.opener, flag);
    text(out, "}");
}

fn listener(out: &mut Vec<u8>, l: &Listener) {
    let first = l.holders.first();
    text(out, "{\"local\":\"");
    end(out, l.local);
    text(out, "\",\"pid\":");
    maybe(out, first, |out, h| small(out, h.process.pid));
    text(out, ",\"comm\":");
    maybe(out, first, |out, h| string(out, &h.comm));
    text(out, ",\"queue\":");
    small(out, l.queue);
    text(out, ",\"limit\":");
    small(out, l.limit);
    text(out, ",\"drops\":");
    small(out, l.drops);
    text(out, ",\"handshakes\":");
    maybe(out, l.handshakes, small);
    text(out, ",\"syncookies_sent\":");
    maybe(out, l.cookies, number);
    text(out, "}");
}

/// Fields and reasons in the fields' order; with it, why nobody is named as closer.
fn unknown(out: &mut Vec<u8>, unknown: &Unknown, closed_by: Option<Reason>) {
    const CLOSED_BY: &str = "closed_by";
    let begins = out.len();
    let mut reason = |field, why: Reason| {
        if out.len() > begins {
            out.push(b',');
        }
        word(out, field);
        out.push(b':');
        word(out, reasons::words(why));
    };
    let split = |before: bool| {
        let said = closed_by.is_some();
        unknown.iter().filter(move |(field, _)| {
            if said { *field != CLOSED_BY && (*field < CLOSED_BY) == before } else { before }
        })
    };
    split(true).for_each(|(field, why)| reason(field, why));
    if let Some(why) = closed_by {
        reason(CLOSED_BY, why);
    }
    split(false).for_each(|(field, why)| reason(field, why));
}

#[cfg(test)]
mod tests;
