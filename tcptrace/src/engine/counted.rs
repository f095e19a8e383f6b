//! Numbers with the word that they count.

/// `1 socket`, `3 sockets`.
#[must_use]
pub fn counted(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let told = [0, 1, 2].map(|n| counted(n, "process", "processes"));
        assert_eq!(told, ["0 processes", "1 process", "2 processes"]);
    }
}
