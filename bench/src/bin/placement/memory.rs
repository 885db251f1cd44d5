//! What this program has in memory.

use anyhow::Context;

/// Bytes: what the kernel says is resident. What one thing costs is the difference before and after, whatever the
/// allocator does with it.
pub fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading what the kernel says")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("what is resident")?;
    let kilobytes = line.trim().trim_end_matches(" kB").trim();
    Ok(kilobytes.parse::<u64>().context("a number of kilobytes")? * 1024)
}
