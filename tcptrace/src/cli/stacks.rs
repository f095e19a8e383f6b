//! Where the threads of a process are: what is done to them for that is said before.

use crate::{
    cli::warn,
    engine::{
        counted::counted,
        record::ProcessId,
        stack::threads::{LeftAlone, Stacks},
    },
    source::live::{jvm::Jvm, stacks},
};

/// Where they are, with what a JVM says itself if it is to be asked.
pub fn of(id: ProcessId, jvm_threads: bool) -> Result<Stacks, LeftAlone> {
    let threads = stacks::would_stop(id)?;
    if threads > 0 {
        let threads = counted(threads as u64, "thread", "threads");
        warn(&format!("--stacks stops {threads} of {} for some microseconds each", id.pid));
    }
    let mut found = stacks::of(id)?;
    if jvm_threads {
        let jvm = Jvm::of(id).inspect(|_| {
            warn(&format!("--jvm-threads has the JVM {} write its own thread dump", id.pid));
        });
        found.dump = Some(jvm.and_then(|jvm| jvm.complete(&mut found.threads)));
    }
    Ok(found)
}
