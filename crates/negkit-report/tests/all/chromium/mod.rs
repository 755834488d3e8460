//! A headless Chromium, spoken to over its pipe (the DevTools protocol): clicks and keys are real, and
//! what it logs and asks of the network is seen.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A browser that does not answer for so long has hung.
const PATIENCE: Duration = Duration::from_secs(120);
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// The browser's program; `None` where there is none, which continuous integration must not pass over.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let all = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = all.into_iter().find(|program| program.is_file());
    if found.is_none() {
        let message = format!(
            "NOT TESTED: no browser was found. Expected one of {} in PATH; on Debian, `apt-get \
             install chromium`",
            NAMES.join(", ")
        );
        let needed = std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
        assert!(!needed, "{message}");
        eprintln!("{message}");
    }
    found
}

/// A browser with one tab.
pub struct Chromium {
    process: Child,
    input: File,
    answers: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What was reported without being asked for, in its order.
    events: Vec<Value>,
    // Its profile and its pipes.
    _folder: TempDir,
}

impl Chromium {
    pub fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (to, from) = (folder.path().join("to"), folder.path().join("from"));
        let made = Command::new("mkfifo").args([&to, &from]).status().unwrap();
        assert!(made.success());
        // The browser reads commands from descriptor 3 and answers on 4, which only a shell can open
        // without unsafe code.
        let process = Command::new("sh")
            .args([
                "-c",
                "to=$1 from=$2; shift 2; exec \"$@\" 3<\"$to\" 4>\"$from\"",
                "sh",
            ])
            .args([&to, &from])
            .arg(program)
            .args([
                "--headless",
                "--window-size=1280,900",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--remote-debugging-pipe",
            ])
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("profile").display()
            ))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // In the order in which the shell opens them: each waits for the other side.
        let input = OpenOptions::new().write(true).open(&to).unwrap();
        let output = BufReader::new(File::open(&from).unwrap());
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for message in output.split(0) {
                let Ok(message) = message else { break };
                let Ok(message) = serde_json::from_slice(&message) else {
                    break;
                };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            process,
            input,
            answers,
            session: None,
            last: 0,
            events: Vec::new(),
            _folder: folder,
        };
        let tab = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let tab = json!({"targetId": tab["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", tab);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a command and waits for its answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.input.write_all(&bytes).unwrap();
        loop {
            let answer = self.receive(method);
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn receive(&self, what: &str) -> Value {
        let answer = self.answers.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|error| panic!("the browser does not answer {what}: {error}"))
    }

    /// Opens a page and waits until it is loaded and its script has run.
    pub fn open(&mut self, address: &str) {
        // A page of its own each time: a change behind '#' alone would load nothing.
        for address in ["about:blank", address] {
            let seen = self.events.len();
            self.call("Page.navigate", json!({"url": address}));
            let loaded = |event: &Value| event["method"] == "Page.loadEventFired";
            while !self.events[seen..].iter().any(loaded) {
                let event = self.receive("that the page is loaded");
                self.events.push(event);
            }
        }
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({
            "expression": expression,
            "returnByValue": true,
            "awaitPromise": true,
        });
        let found = self.call("Runtime.evaluate", parameters);
        assert!(found["exceptionDetails"].is_null(), "{expression}: {found}");
        found["result"]["value"].clone()
    }

    /// Presses the mouse in the middle of the element that a selector finds.
    pub fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect();
               return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses and releases a key, by its name (`Tab`).
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types a text where the focus is.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Errors and warnings that the pages logged, exceptions included.
    pub fn complaints(&self) -> Vec<String> {
        let complaints = self.events.iter().filter(|event| {
            let parameters = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" => true,
                "Runtime.consoleAPICalled" => true,
                "Log.entryAdded" => parameters["entry"]["level"] != "verbose",
                _ => false,
            }
        });
        complaints.map(ToString::to_string).collect()
    }

    /// Addresses that the pages asked for, but for what is inlined.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events.iter();
        let sent = sent.filter(|event| event["method"] == "Network.requestWillBeSent");
        let addresses = sent.filter_map(|event| event["params"]["request"]["url"].as_str());
        let addresses = addresses.filter(|address| !address.starts_with("data:"));
        addresses.map(str::to_owned).collect()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
