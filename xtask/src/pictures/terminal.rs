//! A terminal of a fixed size with a program in it: tmux, with a server of its own.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Ends with its value, and the program with it.
pub struct Terminal {
    server: String,
}

impl Terminal {
    /// Runs a shell's command line in a new one.
    pub fn start(columns: u16, rows: u16, command: &str) -> Result<Self> {
        let terminal = Self { server: format!("tcptrace-pictures-{}", std::process::id()) };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        // Without the status line, which has the host's name; a program that fails stays to be
        // read.
        #[rustfmt::skip]
        terminal.tmux(&[
            "start-server", ";",
            "set-option", "-g", "status", "off", ";",
            "set-option", "-g", "remain-on-exit", "on", ";",
            "set-option", "-g", "default-terminal", "xterm-256color", ";",
            "new-session", "-d", "-x", &columns, "-y", &rows, command,
        ])?;
        Ok(terminal)
    }

    /// What is on the screen now, a line a row, with its colours as escape sequences.
    pub fn screen(&self) -> Result<String> {
        let captured = self.tmux(&["capture-pane", "-p", "-e"])?;
        String::from_utf8(captured.stdout).context("the screen is no text")
    }

    fn tmux(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("tmux");
        command.args(["-u", "-L", &self.server, "-f", "/dev/null"]).args(words);
        command.env_remove("NO_COLOR").env_remove("TMUX").env("LANG", "C.UTF-8").env("TZ", "UTC");
        let output = command.output().context("tmux")?;
        if !output.status.success() {
            bail!("tmux: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only the server of this name, which is ours.
        let _ = self.tmux(&["kill-server"]);
    }
}
