//! HTTP towards the hub: redirects, the token, statuses, repetition.

use std::time::Duration;

use negkit_http::{MAX_SHOWN, RetryPolicy, read_to};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::{Response, Uri, header, uri};
use ureq::{Agent, Body, Proxy};

use crate::config::{HubConfig, Token};
use crate::error::Error;
use crate::location::is_safe_relative;

const MAX_REDIRECTS: usize = 10;
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// Characters that stay as they are in one segment of a path, as in Python's `quote(…, safe="")`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// In a file's path the slashes stay too.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

pub(crate) type Failure = negkit_http::Failure<Error>;

/// What the hub says of a file before it is fetched.
#[derive(Debug, Clone)]
pub(crate) struct RemoteFile {
    /// Where to fetch it.
    pub url: Uri,
    /// The content's name: SHA-256 for large files, git's blob hash for others.
    pub etag: String,
    /// In bytes, where it is announced.
    pub size: Option<u64>,
    /// The commit that the revision stands for.
    pub commit: Option<String>,
}

/// A repository at a revision.
pub(crate) struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

#[derive(Deserialize)]
struct RepositoryAnswer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// How far redirects are followed.
#[derive(Clone, Copy, PartialEq)]
enum Follow {
    /// Within the hub only: the answer that points elsewhere carries the file's metadata.
    WithinHub,
    Everywhere,
}

/// A client of one hub.
pub(crate) struct Client {
    agent: Agent,
    endpoint: Uri,
    token: Option<Token>,
    retry: RetryPolicy,
}

impl Client {
    pub(crate) fn new(config: &HubConfig) -> Result<Client, Error> {
        let setting = |message: String| Error::Setting {
            setting: "HF_ENDPOINT",
            message,
        };
        let text = config.endpoint.trim_end_matches('/');
        let endpoint: Uri = text
            .parse()
            .map_err(|e| setting(format!("`{text}` is no address: {e}")))?;
        if !matches!(endpoint.scheme_str(), Some("http" | "https")) || endpoint.host().is_none() {
            return Err(setting(format!(
                "`{text}` is no address of the form https://host"
            )));
        }
        let proxy = if config.proxy_from_env {
            Proxy::try_from_env()
        } else {
            None
        };
        let agent = Agent::new_with_config(
            Agent::config_builder()
                .max_redirects(0)
                .max_redirects_will_error(false)
                .http_status_as_error(false)
                .user_agent(concat!("negkit/", env!("CARGO_PKG_VERSION")))
                .proxy(proxy)
                .timeout_connect(Some(config.timeout))
                .timeout_recv_response(Some(config.timeout))
                .timeout_per_read(Some(config.timeout))
                .build(),
        );
        Ok(Client {
            agent,
            endpoint,
            token: config.token.clone(),
            retry: config.retry,
        })
    }

    /// The files of a repository at `revision`.
    pub(crate) fn list(&self, id: &str, revision: &str) -> Result<Listing, Error> {
        let url = self.url(&format!(
            "api/models/{id}/revision/{}",
            utf8_percent_encode(revision, SEGMENT)
        ))?;
        let answer: RepositoryAnswer = self.repeated(|| {
            let (response, at) = self.exchange(false, &url, None, Follow::Everywhere)?;
            let body = read_to(response.into_body(), MAX_LISTING_BYTES).map_err(|e| {
                Failure::transient(Error::Connection {
                    url: shown(&at),
                    message: e,
                    attempts: 1,
                })
            })?;
            serde_json::from_slice(&body).map_err(|e| {
                Failure::from(Error::Protocol {
                    url: shown(&at),
                    message: format!("not the description of a repository ({e})"),
                })
            })
        })?;
        let protocol = |message: String| Error::Protocol {
            url: shown(&url),
            message,
        };
        if !is_name(&answer.sha) {
            return Err(protocol(format!("`{}` is no commit", cut(&answer.sha))));
        }
        let files: Vec<String> = answer.siblings.into_iter().map(|s| s.rfilename).collect();
        match files.iter().find(|file| !is_safe_relative(file)) {
            Some(file) => Err(protocol(format!("`{}` is no path of a file", cut(file)))),
            None => Ok(Listing {
                commit: answer.sha,
                files,
            }),
        }
    }

    /// What the hub says of a file.
    pub(crate) fn inspect(
        &self,
        id: &str,
        revision: &str,
        file: &str,
    ) -> Result<RemoteFile, Error> {
        let url = self.url(&format!(
            "{id}/resolve/{}/{}",
            utf8_percent_encode(revision, SEGMENT),
            utf8_percent_encode(file, PATH)
        ))?;
        self.repeated(|| {
            let (response, at) = self.exchange(true, &url, None, Follow::WithinHub)?;
            let protocol = |message: &str| {
                Failure::from(Error::Protocol {
                    url: shown(&at),
                    message: message.to_owned(),
                })
            };
            let etag = text_header(&response, "x-linked-etag")
                .or_else(|| text_header(&response, "etag"))
                .ok_or_else(|| protocol("no ETag, so its content cannot be named or checked"))?;
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
            if !is_name(&etag) {
                return Err(protocol("an ETag that cannot be a file name"));
            }
            let commit = text_header(&response, "x-repo-commit");
            if commit.as_deref().is_some_and(|commit| !is_name(commit)) {
                return Err(protocol("an X-Repo-Commit that is no commit"));
            }
            let size = text_header(&response, "x-linked-size").or_else(|| {
                // A redirect's own length says nothing of the file's.
                response
                    .status()
                    .is_success()
                    .then(|| text_header(&response, "content-length"))
                    .flatten()
            });
            Ok(RemoteFile {
                url: url.clone(),
                etag: etag.to_ascii_lowercase(),
                size: size.and_then(|size| size.parse().ok()),
                commit,
            })
        })
    }

    /// The content from byte `offset` on. Status 416 is handed back like a success: it means that
    /// there is nothing from there on.
    pub(crate) fn get(&self, url: &Uri, offset: u64) -> Result<Response<Body>, Failure> {
        let range = (offset > 0).then_some(offset);
        Ok(self.exchange(false, url, range, Follow::Everywhere)?.0)
    }

    /// Runs `operation` until it succeeds, fails for good, or has been repeated often enough.
    pub(crate) fn repeated<T>(
        &self,
        operation: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let result = self.retry.run(operation);
        result.map_err(|(error, tries)| error.after(tries))
    }

    fn url(&self, path: &str) -> Result<Uri, Error> {
        let base = self.endpoint.to_string();
        let text = format!("{}/{path}", base.trim_end_matches('/'));
        text.parse().map_err(|e| Error::Protocol {
            url: path.to_owned(),
            message: format!("cannot be asked for: {e}"),
        })
    }

    /// One request with its redirects. Gives the answer and the address it came from.
    fn exchange(
        &self,
        head: bool,
        start: &Uri,
        offset: Option<u64>,
        follow: Follow,
    ) -> Result<(Response<Body>, Uri), Failure> {
        let mut url = start.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(head, &url, offset)?;
            let status = response.status();
            if !status.is_redirection() {
                if status.is_success() || (status.as_u16() == 416 && offset.is_some()) {
                    return Ok((response, url));
                }
                return Err(self.refused(response, &url));
            }
            let target = text_header(&response, "location").unwrap_or_default();
            let next = resolve(&url, &target).ok_or_else(|| Error::Protocol {
                url: shown(&url),
                message: "a redirect to no address".to_owned(),
            })?;
            if follow == Follow::WithinHub && !same_origin(&next, &self.endpoint) {
                return Ok((response, url));
            }
            url = next;
        }
        Err(Failure::from(Error::Protocol {
            url: shown(start),
            message: format!("more than {MAX_REDIRECTS} redirects"),
        }))
    }

    fn send(&self, head: bool, url: &Uri, offset: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut request = if head {
            self.agent.head(url.clone())
        } else {
            self.agent.get(url.clone())
        };
        if let Some(offset) = offset {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        // Only ever to the hub itself: files are served from other hosts by signed addresses.
        if let Some(token) = &self.token
            && same_origin(url, &self.endpoint)
        {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.secret()));
        }
        request.call().map_err(|reason| {
            let error = Error::Connection {
                url: shown(url),
                message: self.clean(&reason.to_string()),
                attempts: 1,
            };
            Failure::of_exchange(error, &reason)
        })
    }

    fn refused(&self, response: Response<Body>, url: &Uri) -> Failure {
        let status = response.status().as_u16();
        let wait = text_header(&response, "retry-after")
            .and_then(|seconds| seconds.parse().ok())
            .map(Duration::from_secs);
        let named = [
            text_header(&response, "x-error-code"),
            text_header(&response, "x-error-message"),
        ];
        let named: Vec<String> = named.into_iter().flatten().collect();
        let reason = response
            .status()
            .canonical_reason()
            .unwrap_or("no reason given");
        let mut message = if named.is_empty() {
            let body = read_to(response.into_body(), MAX_SHOWN as u64).unwrap_or_default();
            match String::from_utf8_lossy(&body).trim() {
                "" => reason.to_owned(),
                text => text.to_owned(),
            }
        } else {
            named.join(": ")
        };
        message = self.clean(&message);
        if let Some(wait) = wait {
            message = format!("{message}; asks to wait {} s", wait.as_secs());
        }
        let url = shown(url);
        let error = match status {
            401 => Error::Unauthorized {
                url,
                message,
                with_token: self.token.is_some(),
            },
            403 => Error::Forbidden { url, message },
            404 => Error::NotFound { url, message },
            _ => Error::Status {
                url,
                status,
                message,
                attempts: 1,
            },
        };
        Failure::of_status(error, status, wait)
    }

    /// A text of the other side as it may be shown: short, printable, without the token.
    fn clean(&self, text: &str) -> String {
        negkit_http::shown(text, self.token.as_ref().map(Token::secret))
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// Whether `text` may become one part of a path in the cache, as commits and hashes do.
fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('.')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn text_header(response: &Response<Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let scheme = uri.scheme_str().map(str::to_ascii_lowercase);
        let port = uri.port_u16().or(match scheme.as_deref() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        });
        (scheme, uri.host().map(str::to_ascii_lowercase), port)
    };
    origin(a) == origin(b)
}

/// The address that a `Location` header of `base` stands for.
fn resolve(base: &Uri, target: &str) -> Option<Uri> {
    if target.contains("://") {
        let uri: Uri = target.parse().ok()?;
        return matches!(uri.scheme_str(), Some("http" | "https")).then_some(uri);
    }
    if let Some(rest) = target.strip_prefix("//") {
        return format!("{}://{rest}", base.scheme_str()?).parse().ok();
    }
    let path = if target.starts_with('/') {
        target.to_owned()
    } else if target.is_empty() {
        return None;
    } else {
        let folder = base
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{folder}/{target}")
    };
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(uri::PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// An address as it may be shown: without user, password and query, which may hold secrets.
pub(crate) fn shown(url: &Uri) -> String {
    let host = url.host().unwrap_or_default();
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let scheme = url.scheme_str().unwrap_or_default();
    format!("{scheme}://{host}{port}{}", url.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn redirects_are_resolved_against_their_page() {
        let base = uri("https://hub.example/a/b/resolve/main/x?download=1");
        for (target, expected) in [
            ("/api/cache/x?y=1", "https://hub.example/api/cache/x?y=1"),
            ("y", "https://hub.example/a/b/resolve/main/y"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("http://cdn.example/x?s=1", "http://cdn.example/x?s=1"),
        ] {
            assert_eq!(resolve(&base, target), Some(uri(expected)), "{target}");
        }
        for target in ["", "ftp://x/y", "file:///etc/passwd"] {
            assert_eq!(resolve(&base, target), None, "{target}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = uri("https://hub.example");
        assert!(same_origin(&uri("https://HUB.example:443/x"), &hub));
        for other in [
            "http://hub.example/x",
            "https://hub.example:444/x",
            "https://cdn.hub.example/x",
            "https://hub.example.evil/x",
        ] {
            assert!(!same_origin(&uri(other), &hub), "{other}");
        }
    }

    #[test]
    fn shown_addresses_hold_no_secrets() {
        let url = uri("https://user:pw@cdn.example:8443/x/y?X-Signature=secret");
        assert_eq!(shown(&url), "https://cdn.example:8443/x/y");
    }

    #[test]
    fn names_from_the_server_cannot_leave_the_cache() {
        for name in ["", "..", ".", "a/b", "a\\b", "a b", "\"x"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("0123abcdef"));
    }
}
