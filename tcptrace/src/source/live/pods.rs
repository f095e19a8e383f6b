//! What Kubernetes calls the pods of this node, from the directory that has one for the logs of
//! each. No request, no token: names of directories, and nothing in them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    engine::record::BootNs,
    formats::pods::{KnownPods, PodNames, names},
};

/// It is read no more often than this, ns.
const EVERY_NS: u64 = 10_000_000_000;
/// Directories that are looked at: a node has a few hundred pods at most.
const MOST: usize = 4_096;

/// The names as last read.
#[derive(Debug)]
pub struct Pods {
    directory: PathBuf,
    known: KnownPods,
    next: BootNs,
}

impl Pods {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// What reading the directory answers.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self { directory: directory.to_owned(), known: known(read(directory)?), next: 0 })
    }

    /// The names as last read.
    #[must_use]
    pub fn known(&self) -> &KnownPods {
        &self.known
    }

    /// Where they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The names as of `now`, if they were to be read again. While the directory can't be read they
    /// stay as they were.
    pub fn news(&mut self, now: BootNs) -> Option<KnownPods> {
        if now < self.next {
            return None;
        }
        self.next = now.saturating_add(EVERY_NS);
        match read(&self.directory) {
            Ok(names) => self.known = known(names),
            Err(_) => self.known.is_well = false,
        }
        Some(self.known.clone())
    }
}

fn known(names: PodNames) -> KnownPods {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    KnownPods { names: Arc::new(names), is_well: true, read_s: now.as_secs_f64() }
}

fn read(directory: &Path) -> io::Result<PodNames> {
    let entries = fs::read_dir(directory)?.take(MOST).flatten();
    let entries: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    Ok(names(entries.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let uid = |n: u32| format!("0c8d1f5e-6a0b-4f57-9d5e-{n:012x}");
        let make = |n: u32| fs::create_dir(dir.path().join(format!("shop_cart-{n}_{}", uid(n))));
        make(1).expect("made");
        let mut pods = Pods::open(dir.path()).expect("opens");
        let first = pods.news(1).expect("the first ones");
        assert_eq!(&*first.names[&*uid(1)].name, "cart-1");
        make(2).expect("made");
        assert!(pods.news(2).is_none(), "not read again yet");
        let at = |pods: &mut Pods, n: u64| pods.news(n * EVERY_NS + 1).expect("news");
        assert_eq!(at(&mut pods, 1).names.len(), 2);
        fs::remove_dir(dir.path().join(format!("shop_cart-1_{}", uid(1)))).expect("removed");
        let before = at(&mut pods, 2);
        assert_eq!((before.names.len(), before.is_well), (1, true));
        drop(dir);
        let after = at(&mut pods, 3);
        assert_eq!((after.names.len(), after.is_well), (1, false), "as they were");
        assert_eq!(after.read_s, before.read_s);
        assert!(Pods::open(Path::new("/nonexistent")).is_err());
    }
}
