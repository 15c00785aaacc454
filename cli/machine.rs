//! The resources of this machine: cores, GPUs, memory.

use std::fs;
use std::thread;

use blip_engine::Resources;

/// The resources a run may use; what is not given is everything the machine has.
pub(crate) fn resources(jobs: Option<u32>, memory: Option<u64>) -> Resources {
    Resources {
        cpu: jobs.unwrap_or_else(cores),
        gpu: gpus(),
        memory: memory.unwrap_or_else(total_memory),
    }
}

/// Cores available to this process: affinity masks and cgroup quotas are respected.
fn cores() -> u32 {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

/// GPUs listed by the NVIDIA driver. Read from procfs: to ask libtorch would load it.
fn gpus() -> u32 {
    let gpus = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count);
    u32::try_from(gpus).unwrap_or(0)
}

/// Main memory in bytes; unlimited if the kernel does not report it.
fn total_memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or(u64::MAX, |kilobytes| kilobytes * 1024)
}
