//! What this machine has: cores, GPUs, memory.

use std::fs;
use std::thread;

use blip_engine::Resources;

/// What a run may use: what was asked for, else all there is.
pub(crate) fn resources(jobs: Option<u32>, memory: Option<u64>) -> Resources {
    let cores = || {
        thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
    };
    Resources {
        cpu: jobs.unwrap_or_else(cores),
        gpu: gpus(),
        memory: memory.unwrap_or_else(all_memory),
    }
}

/// The GPUs that an NVIDIA driver knows.
fn gpus() -> u32 {
    let known = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count);
    u32::try_from(known).unwrap_or(0)
}

/// Main memory in bytes; without a word from the kernel, no bound.
fn all_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or(u64::MAX, |kilobytes| kilobytes * 1024)
}
