//! Why a JVM gave no thread dump, with the remedy.

use crate::engine::stack::NoDump;

/// In words.
#[must_use]
pub const fn none(why: NoDump) -> &'static str {
    match why {
        NoDump::NoJvm => "no thread dump of the JVM's: the process runs none (no libjvm.so)",
        NoDump::NotHotSpot => {
            "no thread dump of the JVM's: it is not HotSpot, or its libjvm.so can't be read"
        }
        NoDump::Disabled => {
            "the JVM was not asked for a thread dump: it was started with \
             -XX:+DisableAttachMechanism"
        }
        NoDump::NotCaught => {
            "the JVM was not asked for a thread dump: it does not catch SIGQUIT (-Xrs, or it has only \
             begun), which would end it"
        }
        NoDump::Stopped => {
            "the JVM was not asked for a thread dump: it is stopped (SIGSTOP): kill -CONT PID"
        }
        NoDump::NotPermitted => {
            "the JVM was not asked for a thread dump: that takes root, or to be the JVM's own user"
        }
        NoDump::NoPlace => {
            "the JVM was not asked for a thread dump: no file can be made in its /tmp"
        }
        NoDump::Gone => "no thread dump of the JVM's: it ended",
        NoDump::Silent => "the JVM did not answer with a thread dump in time",
        NoDump::Refused => {
            "the JVM answered with no thread dump: jcmd PID Thread.print may say why"
        }
    }
}
