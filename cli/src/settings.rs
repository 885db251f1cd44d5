//! Where the scheduler is and who asks: flags, then the environment, then the configuration file.
//!
//! What must always hold: a token from the file goes only to the server of that file.

use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::failure::Failure;

/// Where `make up` puts the scheduler by default.
const DEFAULT_URL: &str = "http://127.0.0.1:7300";

#[derive(Debug)]
pub struct Settings {
    pub url: Url,
    pub token: Option<String>,
    /// Where the token comes from, or why there is none: a sentence for who is refused.
    pub token_origin: String,
}

/// `~/.config/berth/config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    token: Option<String>,
}

/// What was given, with where: `--url`, `BERTH_URL`.
struct Given {
    value: String,
    by: &'static str,
}

/// # Errors
/// A URL or a file that cannot be read.
pub fn load(url_flag: Option<String>, token_flag: Option<String>) -> Result<Settings, Failure> {
    let path = config_path();
    let file = match &path {
        Some(path) => read_file(path)?,
        None => File::default(),
    };
    let path = path.unwrap_or_else(|| PathBuf::from("~/.config/berth/config.toml"));
    choose(given(url_flag, "--url", "BERTH_URL"), given(token_flag, "--token", "BERTH_TOKEN"), file, &path)
}

fn given(flag: Option<String>, flag_name: &'static str, variable: &'static str) -> Option<Given> {
    let value = |value: String, by| (!value.is_empty()).then_some(Given { value, by });
    flag.and_then(|flag| value(flag, flag_name))
        .or_else(|| std::env::var(variable).ok().and_then(|found| value(found, variable)))
}

fn config_path() -> Option<PathBuf> {
    let folder = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("berth").join("config.toml"))
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(Failure::Usage(format!("cannot read {}: {error}", path.display()))),
    };
    toml::from_str(&text).map_err(|error| Failure::Usage(format!("{}: {}", path.display(), error.message())))
}

fn choose(url: Option<Given>, token: Option<Given>, file: File, path: &Path) -> Result<Settings, Failure> {
    let path = path.display();
    let file_url = file.url.map(|url| read_url(&url, &path.to_string())).transpose()?;
    let url = match url {
        Some(given) => read_url(&given.value, given.by)?,
        None => file_url.clone().unwrap_or(read_url(DEFAULT_URL, "the default")?),
    };
    let (token, token_origin) = match (token, file.token) {
        (Some(given), _) => (Some(given.value), format!("the token came from {}", given.by)),
        (None, Some(token)) if file_url.as_ref().is_none_or(|of_file| *of_file == url) => {
            (Some(token), format!("the token came from {path}"))
        }
        (None, Some(_)) => (
            None,
            format!("no token was sent: the one in {path} is for another server; set BERTH_TOKEN or --token"),
        ),
        (None, None) => (
            None,
            format!(
                "no token was given: set BERTH_TOKEN (`make up` writes it to .berth/env), --token, or token = \"…\" in {path}"
            ),
        ),
    };
    if let Some(token) = &token
        && token.chars().any(|c| !c.is_ascii_graphic())
    {
        return Err(Failure::Usage(format!("{token_origin} and contains characters that no token has")));
    }
    Ok(Settings { url, token, token_origin })
}

fn read_url(text: &str, by: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("the URL {text:?} ({by}) {why}; write http://host:port"));
    let url = Url::parse(text).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("is not of a web server"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(value: &str, by: &'static str) -> Option<Given> {
        Some(Given { value: value.into(), by })
    }
    fn file(url: Option<&str>, token: Option<&str>) -> File {
        File { url: url.map(Into::into), token: token.map(Into::into) }
    }
    fn chosen(url: Option<Given>, token: Option<Given>, file: File) -> Settings {
        choose(url, token, file, Path::new("/c.toml")).expect("settings")
    }

    #[test]
    fn what_is_given_wins_over_the_file_and_the_file_over_the_default() {
        let s = chosen(None, None, file(None, None));
        assert_eq!((s.url.as_str(), s.token), ("http://127.0.0.1:7300/", None));
        let s = chosen(None, None, file(Some("https://berth.lab"), Some("f")));
        assert_eq!((s.url.as_str(), s.token.as_deref()), ("https://berth.lab/", Some("f")));
        let s = chosen(
            by("http://h:1", "--url"),
            by("t", "BERTH_TOKEN"),
            file(Some("https://berth.lab"), Some("f")),
        );
        assert_eq!((s.url.as_str(), s.token.as_deref()), ("http://h:1/", Some("t")));
        assert!(s.token_origin.contains("BERTH_TOKEN"));
    }

    #[test]
    fn the_files_token_is_not_sent_to_another_server() {
        let s = chosen(by("http://elsewhere:1", "--url"), None, file(Some("https://berth.lab"), Some("f")));
        assert_eq!(s.token, None);
        assert!(s.token_origin.contains("another server"), "{}", s.token_origin);
        let s = chosen(by("https://berth.lab/", "--url"), None, file(Some("https://berth.lab"), Some("f")));
        assert_eq!(s.token.as_deref(), Some("f"));
    }

    #[test]
    fn what_cannot_be_used_is_wrong_usage() {
        for url in ["", "berth.lab", "ftp://h", "http://"] {
            assert!(matches!(read_url(url, "--url"), Err(Failure::Usage(_))), "{url}");
        }
        let newline = choose(None, by("a\nb", "BERTH_TOKEN"), file(None, None), Path::new("/c"));
        assert!(
            matches!(newline, Err(Failure::Usage(text)) if text.contains("BERTH_TOKEN") && !text.contains("a\nb"))
        );
    }
}
