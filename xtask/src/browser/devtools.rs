//! Chromium, driven by its own protocol (DevTools) over two pipes: no driver program, no socket.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    /// What happened and was not looked at yet.
    pub events: VecDeque<Value>,
    session: String,
    /// The address of the page.
    home: String,
    last: u64,
}

impl Browser {
    /// Starts it, without a window and with a profile of its own.
    pub fn start(program: &Path, profile: &Path) -> Result<Self> {
        // The protocol's pipes are descriptors 3 and 4; what it says itself is not asked for.
        let script = "exec \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null";
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(program)
            .args(["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"])
            .arg("--hide-scrollbars")
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--force-color-profile=srgb", "--font-render-hinting=none"])
            // As root its sandbox does not start; what it loads is our own page.
            .arg("--no-sandbox")
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the browser")?;
        let to = child.stdin.take().context("the browser's pipe")?;
        let mut pipe = BufReader::new(child.stdout.take().context("the browser's pipe")?);
        let (sender, from) = channel();
        thread::spawn(move || {
            loop {
                let mut message = Vec::new();
                match pipe.read_until(0, &mut message) {
                    Ok(n) if n > 0 => message.pop(),
                    _ => return,
                };
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let events = VecDeque::new();
        let mut browser =
            Self { child, to, from, events, session: String::new(), home: String::new(), last: 0 };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let target = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", target)?;
        browser.session = attached["sessionId"].as_str().context("no session")?.to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Calls a method of the protocol, and waits for its answer.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = Value::from(self.session.as_str());
        }
        self.to.write_all(message.to_string().as_bytes())?;
        self.to.write_all(&[0])?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next(deadline).with_context(|| method.to_owned())?;
            if message["id"] == id {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].clone());
            }
            self.events.push_back(message);
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<Value> {
        match self.from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(message) => Ok(message),
            Err(RecvTimeoutError::Timeout) => bail!("no answer in {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the browser has ended"),
        }
    }

    /// Waits for an event.
    fn wait_for(&mut self, name: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next(deadline).with_context(|| name.to_owned())?;
            let found = message["method"] == name;
            self.events.push_back(message);
            if found {
                return Ok(());
            }
        }
    }

    /// Loads a file, and waits until it is drawn.
    pub fn open(&mut self, file: &Path) -> Result<()> {
        self.open_url(&format!("file://{}", file.display()))
    }

    /// The same of whatever address. What it asks from there is no complaint.
    pub fn open_url(&mut self, url: &str) -> Result<()> {
        self.events.clear();
        url.clone_into(&mut self.home);
        self.call("Page.navigate", json!({ "url": url }))?;
        if !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            self.wait_for("Page.loadEventFired")?;
        }
        Ok(())
    }

    /// What went wrong on the page, and what it asked the network for.
    pub fn complaints(&mut self) -> Vec<String> {
        // Up to its path: whose page it is may be asked for more.
        let path = self.home.match_indices('/').nth(2).map(|(at, _)| at + 1);
        let home = self.home[..path.unwrap_or(0)].to_owned();
        let wrong = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" => Some(params["args"].to_string()),
                "Log.entryAdded" => Some(params["entry"].to_string()),
                "Page.javascriptDialogOpening" => Some(format!("a dialog: {params}")),
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str().unwrap_or_default();
                    (!url.starts_with(&home)).then(|| format!("a request: {url}"))
                }
                _ => None,
            }
        };
        self.events.drain(..).filter_map(|event| wrong(&event)).collect()
    }

    /// The value of an expression; of a promise, what it comes to.
    pub fn ask(&mut self, expression: &str) -> Result<Value> {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until what was done is drawn.
    pub fn drawn(&mut self) -> Result<()> {
        self.ask("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")
            .map(drop)
    }

    /// The size of the window, and whether it is dark.
    pub fn resize(&mut self, width: u32, height: u32, dark: bool) -> Result<()> {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }))?;
        self.drawn()
    }

    /// Clicks in the middle of what a selector finds, as a mouse does.
    pub fn click(&mut self, selector: &str) -> Result<()> {
        let place = self.ask(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); \
             e.scrollIntoView({{ block: 'nearest' }}); const r = e.getBoundingClientRect(); \
             return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ))?;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", event)?;
        }
        self.drawn()
    }

    /// Presses a key that writes nothing: `ArrowDown`, or with `control` held `a`.
    pub fn press(&mut self, key: &str, control: bool) -> Result<()> {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "PageDown" => 34,
            "End" => 35,
            "Home" => 36,
            "ArrowUp" => 38,
            "ArrowDown" => 40,
            "Delete" => 46,
            "a" => 65,
            _ => bail!("what is the number of {key}?"),
        };
        for kind in ["rawKeyDown", "keyUp"] {
            let mut event = json!({
                "type": kind, "key": key, "windowsVirtualKeyCode": code,
                "modifiers": if control { 2 } else { 0 },
            });
            // It writes a line's end, and that is what works a button.
            if key == "Enter" && kind == "rawKeyDown" {
                (event["type"], event["text"]) = (Value::from("keyDown"), Value::from("\r"));
            }
            if control && kind == "rawKeyDown" {
                event["commands"] = json!(["selectAll"]);
            }
            self.call("Input.dispatchKeyEvent", event)?;
        }
        self.drawn()
    }

    /// Types a text, key by key.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        for letter in text.chars() {
            let letter = letter.to_string();
            for kind in ["keyDown", "keyUp"] {
                let mut event = json!({ "type": kind, "key": letter });
                if kind == "keyDown" {
                    event["text"] = Value::from(letter.as_str());
                }
                self.call("Input.dispatchKeyEvent", event)?;
            }
        }
        self.drawn()
    }

    /// A picture of the page, or of its top so many pixels high; PNG, in base64.
    pub fn picture(&mut self, high: Option<u32>) -> Result<String> {
        let size = self.call("Page.getLayoutMetrics", json!({}))?["cssContentSize"].clone();
        let height = high.map_or(size["height"].clone(), Value::from);
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1 });
        let params = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let answer = self.call("Page.captureScreenshot", params)?;
        answer["data"].as_str().map(str::to_owned).context("no picture")
    }

    /// The page on paper; PDF, in base64.
    pub fn print(&mut self) -> Result<String> {
        let params = json!({ "printBackground": true, "preferCSSPageSize": true });
        let answer = self.call("Page.printToPDF", params)?;
        answer["data"].as_str().map(str::to_owned).context("nothing printed")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with its pipes; who does not is ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
