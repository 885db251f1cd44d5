//! GPU types as users write them, from the marketing names that NVML gives.
//!
//! A type must be the same on every device that has that GPU, whatever its board's form, and short
//! enough to be typed: `NVIDIA A100-SXM4-80GB` and `NVIDIA A100 80GB PCIe` are both `A100-80GB`.
//! The memory is in the type where it is in the name, because there the name has variants.

/// The type of a GPU with this NVML name.
#[must_use]
pub fn type_of(name: &str) -> String {
    let words = name.split(|c: char| c.is_whitespace() || c == '-').filter(|word| !word.is_empty());
    let kept: Vec<&str> = words.filter(|word| !is_noise(word)).collect();
    // The memory stands last, wherever the name has it.
    let (memory, rest): (Vec<&str>, Vec<&str>) = kept.into_iter().partition(|word| is_memory(word));
    let kind = [rest, memory].concat().join("-");
    if kind.is_empty() { name.trim().replace(char::is_whitespace, "-") } else { kind }
}

/// Makers, brands, board forms and kinds of memory: what does not tell two types apart.
fn is_noise(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    matches!(
        word.as_str(),
        "NVIDIA" | "TESLA" | "GEFORCE" | "QUADRO" | "PCIE" | "GPU" | "GENERATION" | "EDITION"
    ) || is_numbered(&word, "SXM")
        || is_numbered(word.trim_end_matches('E'), "HBM")
}

/// `SXM`, `SXM4`, `HBM3`.
fn is_numbered(word: &str, prefix: &str) -> bool {
    word.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// `80GB`.
fn is_memory(word: &str) -> bool {
    word.strip_suffix("GB").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_types() {
        for (name, expected) in [
            ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
            ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
            ("NVIDIA A100 80GB PCIe", "A100-80GB"),
            ("A100-PCIE-40GB", "A100-40GB"),
            ("NVIDIA A100-SXM-64GB", "A100-64GB"),
            ("Tesla T4", "T4"),
            ("Tesla V100-SXM2-16GB", "V100-16GB"),
            ("Tesla V100-PCIE-32GB", "V100-32GB"),
            ("Tesla K80", "K80"),
            ("NVIDIA H100 80GB HBM3", "H100-80GB"),
            ("NVIDIA H100 PCIe", "H100"),
            ("NVIDIA H100 NVL", "H100-NVL"),
            ("NVIDIA H200", "H200"),
            ("NVIDIA B200", "B200"),
            ("NVIDIA GH200 480GB", "GH200-480GB"),
            ("NVIDIA L40S", "L40S"),
            ("NVIDIA A10G", "A10G"),
            ("NVIDIA GeForce RTX 4090", "RTX-4090"),
            ("GeForce GTX 1080 Ti", "GTX-1080-Ti"),
            ("NVIDIA RTX A6000", "RTX-A6000"),
            ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"),
            ("Quadro RTX 8000", "RTX-8000"),
            ("NVIDIA TITAN RTX", "TITAN-RTX"),
            ("NVIDIA", "NVIDIA"),
            ("", ""),
        ] {
            assert_eq!(type_of(name), expected, "{name}");
        }
    }
}
