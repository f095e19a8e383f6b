//! How many CPUs the maps must have room for.

use std::{fs, io};

/// CPUs that may ever come, as the kernel lists their numbers.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// One more than the highest number that a CPU may have: the numbers may have gaps.
///
/// # Errors
/// The list can't be read.
pub fn numbers() -> io::Result<u32> {
    let text = fs::read_to_string(POSSIBLE)?;
    beyond(&text).ok_or_else(|| io::Error::other(format!("{POSSIBLE}: no list: {}", text.trim())))
}

/// One more than the highest number in a list such as `0-3,8`.
fn beyond(list: &str) -> Option<u32> {
    let last = |range: &str| range.rsplit('-').next()?.trim().parse::<u32>().ok()?.checked_add(1);
    list.split(',').map(last).try_fold(0, |most, one| Some(most.max(one?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_counts() {
        assert_eq!(beyond("0\n"), Some(1));
        assert_eq!(beyond("0-3\n"), Some(4));
        assert_eq!(beyond("0-1,4-5,8\n"), Some(9), "three CPUs are missing");
        assert_eq!(beyond("8,0-3\n"), Some(9));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "\n", "0-", "0,,1", "x", "4294967295"] {
            assert_eq!(beyond(text), None, "{text:?}");
        }
    }
}
