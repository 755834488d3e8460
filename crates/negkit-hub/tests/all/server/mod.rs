//! A small server on 127.0.0.1 that speaks the hub's protocol, and a second one that plays the
//! host which the files are served from. Any answer can be replaced by a broken one.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use negkit_hub::{Hub, HubConfig, RetryPolicy, Token};
use sha1::Digest;

/// The commit that `main` stands for.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Debug, Clone)]
pub struct Request {
    /// `hub` or `cdn`.
    pub host: &'static str,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// `GET cdn` and the like, for assertions on the course of a download.
    pub fn brief(&self) -> String {
        format!("{} {}", self.method, self.host)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Instead of the body's length.
    pub announced: Option<u64>,
    /// Send no length at all; the end of the connection is the end of the body.
    pub no_length: bool,
    /// Close the connection after this many bytes of the body.
    pub break_after: Option<usize>,
    /// Wait for so long before the first byte.
    pub delay: Duration,
    /// Keep the connection open for so long after the last byte that is sent.
    pub silence: Duration,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply {
            status,
            ..Reply::default()
        }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }
}

/// Replaces or edits the regular answer to a request; the number counts the requests so far.
type Tamper = Box<dyn Fn(&Request, usize, Reply) -> Reply + Send + Sync>;

#[derive(Clone)]
struct Content {
    bytes: Vec<u8>,
    /// Large files live on the other host and are named by their SHA-256.
    large: bool,
}

/// The hub, its files, and what it was asked.
pub struct FakeHub {
    pub url: String,
    state: Arc<State>,
}

struct State {
    files: BTreeMap<String, Content>,
    id: String,
    cdn_url: String,
    log: Mutex<Vec<Request>>,
    tamper: Tamper,
}

pub struct Builder {
    id: String,
    files: BTreeMap<String, Content>,
    tamper: Tamper,
}

impl FakeHub {
    pub fn of(id: &str) -> Builder {
        Builder {
            id: id.to_owned(),
            files: BTreeMap::new(),
            tamper: Box::new(|_, _, reply| reply),
        }
    }

    pub fn log(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    pub fn clear_log(&self) {
        self.state.log.lock().unwrap().clear();
    }

    /// The requests in brief, those for the listing left out.
    pub fn course(&self) -> Vec<String> {
        let log = self.log();
        let files = log.iter().filter(|r| !r.path.starts_with("/api/models/"));
        files.map(Request::brief).collect()
    }

    /// Settings that ask this hub, quickly impatient, with everything below `folder`.
    pub fn config(&self, folder: &Path) -> HubConfig {
        let mut config = HubConfig::new(folder.join("hub"), folder.join("weights"));
        config.endpoint = self.url.clone();
        config.timeout = Duration::from_secs(10);
        config.retry = RetryPolicy {
            repeats: 3,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_secs(5),
        };
        config
    }

    pub fn hub(&self, folder: &Path) -> Hub {
        Hub::new(self.config(folder)).unwrap()
    }

    pub fn hub_with_token(&self, folder: &Path, token: &str) -> Hub {
        let mut config = self.config(folder);
        config.token = Token::new(token);
        Hub::new(config).unwrap()
    }
}

impl Builder {
    pub fn large(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Builder {
        let content = Content {
            bytes: bytes.into(),
            large: true,
        };
        self.files.insert(name.to_owned(), content);
        self
    }

    pub fn small(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Builder {
        let content = Content {
            bytes: bytes.into(),
            large: false,
        };
        self.files.insert(name.to_owned(), content);
        self
    }

    pub fn tamper(
        mut self,
        tamper: impl Fn(&Request, usize, Reply) -> Reply + Send + Sync + 'static,
    ) -> Builder {
        self.tamper = Box::new(tamper);
        self
    }

    pub fn start(self) -> FakeHub {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let cdn = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let url = address(&hub);
        let state = Arc::new(State {
            files: self.files,
            id: self.id,
            cdn_url: address(&cdn),
            log: Mutex::new(Vec::new()),
            tamper: self.tamper,
        });
        for (listener, host) in [(hub, "hub"), (cdn, "cdn")] {
            let state = Arc::clone(&state);
            // The threads end with the test's process.
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    thread::spawn(move || state.serve(host, stream));
                }
            });
        }
        FakeHub { url, state }
    }
}

impl State {
    fn serve(&self, host: &'static str, mut stream: TcpStream) -> Option<()> {
        let request = read_request(host, &stream)?;
        let nth = {
            let mut log = self.log.lock().unwrap();
            log.push(request.clone());
            log.len() - 1
        };
        let regular = match host {
            "hub" => self.answer_as_hub(&request),
            _ => self.answer_as_cdn(&request),
        };
        let reply = (self.tamper)(&request, nth, regular);
        write_reply(&mut stream, &request, &reply)
    }

    fn answer_as_hub(&self, request: &Request) -> Reply {
        let path = percent_encoding::percent_decode_str(&request.path)
            .decode_utf8()
            .unwrap();
        let path = path.as_ref();
        for revision in ["main", COMMIT] {
            if path == format!("/api/models/{}/revision/{revision}", self.id) {
                let siblings: Vec<_> = self
                    .files
                    .keys()
                    .map(|name| serde_json::json!({ "rfilename": name }))
                    .collect();
                let listing = serde_json::json!({ "sha": COMMIT, "siblings": siblings });
                return Reply::status(200).body(listing.to_string());
            }
            // As the real hub does, small files are behind a redirect within the hub.
            if let Some(name) = path.strip_prefix(&format!("/{}/resolve/{revision}/", self.id)) {
                return match self.files.get(name) {
                    Some(content) if content.large => Reply::status(302)
                        .with(
                            "Location",
                            format!("{}/blob/{name}?Signature=s3cret", self.cdn_url),
                        )
                        .with("X-Repo-Commit", COMMIT)
                        .with("X-Linked-Size", content.bytes.len())
                        .with("X-Linked-Etag", format!("\"{}\"", sha256(&content.bytes)))
                        .with("ETag", "\"of-the-redirect\""),
                    Some(_) => Reply::status(307).with(
                        "Location",
                        format!("/api/resolve-cache/models/{}/{COMMIT}/{name}", self.id),
                    ),
                    None => Reply::status(404)
                        .with("X-Error-Code", "EntryNotFound")
                        .with("X-Error-Message", "Entry not found"),
                };
            }
        }
        let prefix = format!("/api/resolve-cache/models/{}/{COMMIT}/", self.id);
        match path
            .strip_prefix(&prefix)
            .and_then(|name| self.files.get(name))
        {
            Some(content) => content_reply(request, &content.bytes)
                .with("X-Repo-Commit", COMMIT)
                .with("ETag", format!("W/\"{}\"", git_sha1(&content.bytes))),
            None => Reply::status(404).with("X-Error-Code", "RepoNotFound"),
        }
    }

    fn answer_as_cdn(&self, request: &Request) -> Reply {
        let name = request
            .path
            .strip_prefix("/blob/")
            .and_then(|p| p.split('?').next());
        match name.and_then(|name| self.files.get(name)) {
            Some(content) => {
                content_reply(request, &content.bytes).with("ETag", "\"an-etag-of-the-other-host\"")
            }
            None => Reply::status(404),
        }
    }
}

fn content_reply(request: &Request, bytes: &[u8]) -> Reply {
    let range = request
        .header("range")
        .and_then(|r| r.strip_prefix("bytes="))
        .and_then(|r| r.strip_suffix('-'))
        .and_then(|r| r.parse::<usize>().ok());
    match range {
        None => Reply::status(200).body(bytes),
        Some(start) if start < bytes.len() => Reply::status(206).body(&bytes[start..]).with(
            "Content-Range",
            format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()),
        ),
        Some(_) => Reply::status(416).with("Content-Range", format!("bytes */{}", bytes.len())),
    }
}

fn read_request(host: &'static str, stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(Request {
        host,
        method,
        path,
        headers,
    })
}

fn write_reply(stream: &mut TcpStream, request: &Request, reply: &Reply) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = reply.announced.unwrap_or(reply.body.len() as u64);
    if !reply.no_length {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
    thread::sleep(reply.delay);
    stream.write_all(head.as_bytes()).ok()?;
    if request.method != "HEAD" {
        let end = reply
            .break_after
            .unwrap_or(reply.body.len())
            .min(reply.body.len());
        stream.write_all(&reply.body[..end]).ok()?;
    }
    stream.flush().ok()?;
    thread::sleep(reply.silence);
    Some(())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

pub fn git_sha1(bytes: &[u8]) -> String {
    let mut all = format!("blob {}\0", bytes.len()).into_bytes();
    all.extend_from_slice(bytes);
    hex(&sha1::Sha1::digest(&all))
}

/// Bytes without a period, so that a piece in the wrong place changes the content.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
