//! Settings, and where they come from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use negkit_http::RetryPolicy;

/// An access token for the hub. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from its text; `None` when there is nothing but white space.
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(text.to_owned()))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where files lie and how the hub is asked.
///
/// [`HubConfig::from_env`] reads the variables that Python's `huggingface_hub` reads, with the same
/// meaning, so that both share one cache.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The hub's address, `https://huggingface.co` unless `HF_ENDPOINT` says otherwise.
    pub endpoint: String,
    /// The cache of repositories (`HF_HUB_CACHE`, else `hub` below `HF_HOME`).
    pub cache: PathBuf,
    /// The folder of plain copies, one folder a model (`NEGKIT_WEIGHTS`, else `weights`).
    pub weights: PathBuf,
    /// Sent to the endpoint, and to no other host.
    pub token: Option<Token>,
    /// Never ask the hub.
    pub offline: bool,
    /// Honour `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    pub proxy_from_env: bool,
    /// Draw a progress bar on standard error while downloading, when it is a terminal.
    pub progress: bool,
    /// How requests are repeated.
    pub retry: RetryPolicy,
    /// The longest wait for a connection, and for the next bytes on one.
    pub timeout: Duration,
}

/// The public hub.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

impl HubConfig {
    /// Settings that depend on nothing outside: `cache` and `weights` as given, the public hub, no
    /// token, no proxy, no progress bar.
    pub fn new(cache: impl Into<PathBuf>, weights: impl Into<PathBuf>) -> HubConfig {
        HubConfig {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            cache: cache.into(),
            weights: weights.into(),
            token: None,
            offline: false,
            proxy_from_env: false,
            progress: false,
            retry: RetryPolicy::five(Duration::from_millis(500)),
            timeout: Duration::from_secs(60),
        }
    }

    /// Settings from the environment of this process.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `HF_ENDPOINT` | the hub's address |
    /// | `HF_HUB_CACHE` (or `HUGGINGFACE_HUB_CACHE`) | the cache |
    /// | `HF_HOME` | the folder with `hub/` and `token`; default `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface` |
    /// | `HF_TOKEN` (or `HUGGING_FACE_HUB_TOKEN`) | the token; else the file `HF_TOKEN_PATH`, else `token` in `HF_HOME` |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | send no token |
    /// | `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) | never ask the hub |
    /// | `HF_HUB_DISABLE_PROGRESS_BARS` | no progress bar |
    /// | `NEGKIT_WEIGHTS` | the folder of plain copies |
    pub fn from_env() -> HubConfig {
        HubConfig::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`HubConfig::from_env`], from any source of variables.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> HubConfig {
        let home = std::env::home_dir().unwrap_or_default();
        let path = |name: &str| set(&get, name).map(|text| expand(&text, &home));
        let hf_home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME")
                .unwrap_or_else(|| home.join(".cache"))
                .join("huggingface")
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| hf_home.join("hub"));
        let token = if flag(&get, "HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
            set(&get, "HF_TOKEN")
                .or_else(|| set(&get, "HUGGING_FACE_HUB_TOKEN"))
                .or_else(|| std::fs::read_to_string(file).ok())
                .as_deref()
                .and_then(Token::new)
        };
        HubConfig {
            endpoint: set(&get, "HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            token,
            offline: flag(&get, "HF_HUB_OFFLINE") || flag(&get, "TRANSFORMERS_OFFLINE"),
            proxy_from_env: true,
            progress: !flag(&get, "HF_HUB_DISABLE_PROGRESS_BARS"),
            ..HubConfig::new(
                cache,
                path("NEGKIT_WEIGHTS").unwrap_or_else(|| PathBuf::from("weights")),
            )
        }
    }
}

fn set(get: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    get(name).filter(|value| !value.trim().is_empty())
}

/// True for the words that `huggingface_hub` takes for true.
fn flag(get: &impl Fn(&str) -> Option<String>, name: &str) -> bool {
    get(name).is_some_and(|value| {
        matches!(
            value.trim().to_ascii_uppercase().as_str(),
            "1" | "ON" | "YES" | "TRUE"
        )
    })
}

fn expand(text: &str, home: &Path) -> PathBuf {
    match text.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn config(variables: &[(&str, &str)]) -> HubConfig {
        HubConfig::from_variables(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_is_found_in_the_order_of_the_python_library() {
        let home = std::env::home_dir().unwrap();
        assert_eq!(config(&[]).cache, home.join(".cache/huggingface/hub"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(config(&[xdg]).cache, Path::new("/x/huggingface/hub"));
        let hf = ("HF_HOME", "/h");
        assert_eq!(config(&[xdg, hf]).cache, Path::new("/h/hub"));
        assert_eq!(config(&[hf, ("HF_HUB_CACHE", "/c")]).cache, Path::new("/c"));
        assert_eq!(config(&[("HF_HOME", "~/h")]).cache, home.join("h/hub"));
        // An empty variable is as good as none.
        assert_eq!(
            config(&[xdg, ("HF_HOME", "")]).cache,
            Path::new("/x/huggingface/hub")
        );
    }

    #[test]
    fn the_token_comes_from_the_variable_then_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        assert_eq!(config(&[("HF_HOME", home)]).token, None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(config(&[("HF_HOME", home)]).token, Token::new("hf_file"));
        let both = [("HF_HOME", home), ("HF_TOKEN", " hf_var ")];
        assert_eq!(config(&both).token, Token::new("hf_var"));
        let none = [("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(config(&none).token, None);
    }

    #[test]
    fn offline_is_read_as_a_flag() {
        for (value, offline) in [
            ("1", true),
            ("true", true),
            ("YES", true),
            ("0", false),
            ("", false),
        ] {
            assert_eq!(
                config(&[("HF_HUB_OFFLINE", value)]).offline,
                offline,
                "{value}"
            );
        }
        assert!(config(&[("TRANSFORMERS_OFFLINE", "on")]).offline);
    }

    #[test]
    fn the_token_is_not_shown() {
        let config = config(&[("HF_TOKEN", "hf_secret")]);
        assert!(!format!("{config:?}").contains("hf_secret"));
    }
}
