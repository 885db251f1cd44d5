//! Amounts of memory as people write and read them. Berth counts in megabytes of 2^20 bytes, as Docker's `m` does.

/// Megabytes from `512m`, `4g`, `1.5g`, `1t`, with or without a final `b` or `ib`.
///
/// # Errors
/// The form, when `text` has another or is no whole number of megabytes.
pub fn parse_mb(text: &str) -> Result<u64, String> {
    let form = || format!("{text:?}: write a number and a unit, e.g. 512m, 4g, 1.5g");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor = match unit.trim_end_matches('b').trim_end_matches('i') {
        "m" => 1.0,
        "g" => 1024.0,
        "t" => 1024.0 * 1024.0,
        _ => return Err(form()),
    };
    let mb = number.parse::<f64>().map_err(|_| form())? * factor;
    // 2^53: above it f64 does not hold every whole number.
    if !mb.is_finite() || mb.fract() != 0.0 || mb > 9_007_199_254_740_992.0 {
        return Err(form());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked on the lines before
    Ok(mb as u64)
}

/// `512 MB`, `64 GB`, `1.5 TB`.
#[must_use]
pub fn format_mb(mb: i64) -> String {
    #[allow(clippy::cast_precision_loss)] // shown with one digit
    let mb = mb as f64;
    let (value, unit) = if mb < 1024.0 {
        (mb, "MB")
    } else if mb < 1024.0 * 1024.0 {
        (mb / 1024.0, "GB")
    } else {
        (mb / 1024.0 / 1024.0, "TB")
    };
    let digits = usize::from(value.fract() >= 0.05 && value.fract() < 0.95);
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_or_refused_with_the_form() {
        for (text, mb) in [
            ("512m", 512),
            ("4g", 4096),
            ("4G", 4096),
            ("4GB", 4096),
            ("4GiB", 4096),
            ("1.5g", 1536),
            ("1t", 1_048_576),
        ] {
            assert_eq!(parse_mb(text), Ok(mb), "{text}");
        }
        for bad in ["", "4", "g", "4k", "-1g", "1..5g", "0.0001m", "1e9g", "99999999999999999t"] {
            assert!(parse_mb(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_written_in_the_largest_unit() {
        for (mb, text) in [
            (0, "0 MB"),
            (512, "512 MB"),
            (1024, "1 GB"),
            (1536, "1.5 GB"),
            (81_920, "80 GB"),
            (1_572_864, "1.5 TB"),
        ] {
            assert_eq!(format_mb(mb), text);
        }
    }
}
