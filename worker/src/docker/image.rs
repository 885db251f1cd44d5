//! Image references: which are asked for at all, and what a missing tag means.

/// Whether `image` is written in the characters of image references: it becomes a part of a URL.
pub(super) fn is_reference(image: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    !image.is_empty() && !image.starts_with('/') && !image.contains("..") && image.chars().all(plain)
}

/// Without a tag Docker would pull every one there is.
pub(super) fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_references_reach_dockers_paths() {
        for good in ["busybox", "host:5000/team/train:2", "busybox@sha256:00", "a__b"] {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["", "../containers/json", "a?b", "a#b", "a%2e", "/a", "ä"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }

    #[test]
    fn an_image_without_a_tag_is_its_latest() {
        assert_eq!(with_tag("busybox"), "busybox:latest");
        assert_eq!(with_tag("host:5000/team/train"), "host:5000/team/train:latest");
        assert_eq!(with_tag("host:5000/team/train:2"), "host:5000/team/train:2");
        assert_eq!(with_tag("busybox@sha256:00"), "busybox@sha256:00");
    }
}
