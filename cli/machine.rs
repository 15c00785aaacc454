//! The resources of this machine: cores, GPUs, memory; and the device that models run on.

use std::ffi::OsString;
use std::fs;
use std::thread;

use blip_engine::{Resources, Workflow};
use blip_grammar::{Diagnostic, codes};
use blip_ops::DeviceChoice;
use clap::ValueEnum;

use crate::args::{Device, DeviceArgs};

/// Makes the device of the command line the one of this process.
pub(crate) fn choose_device(args: DeviceArgs) {
    let choice = args.device.map(|device| match device {
        Device::Auto => DeviceChoice::Auto,
        Device::Cpu => DeviceChoice::Cpu,
        Device::Cuda => DeviceChoice::Cuda,
    });
    if let Some(choice) = choice {
        choice.choose();
    }
}

/// The arguments that give a child process the same device.
pub(crate) fn device_args(args: DeviceArgs) -> Vec<OsString> {
    let name = args.device.and_then(|device| device.to_possible_value());
    match name {
        Some(name) => vec!["--device".into(), name.get_name().into()],
        None => Vec::new(),
    }
}

/// A diagnostic for each stage that asks for more GPUs than this machine has, unless the user chose
/// the CPU: it would run there without a word, for weeks.
pub(crate) fn missing_gpus(workflow: &Workflow) -> Vec<Diagnostic> {
    if DeviceChoice::current() == Ok(DeviceChoice::Cpu) {
        return Vec::new();
    }
    let gpus = gpus();
    let mut diagnostics = Vec::new();
    for stage in &workflow.program.stages {
        let wanted = stage.attributes.gpu.unwrap_or(0);
        if wanted > gpus {
            let what = match gpus {
                0 => format!(
                    "`{}` has @gpu({wanted}), but this machine has no GPU",
                    stage.name
                ),
                _ => format!(
                    "`{}` has @gpu({wanted}), but this machine has {gpus}",
                    stage.name
                ),
            };
            diagnostics.push(
                Diagnostic::error(codes::BAD_ATTRIBUTE, what)
                    .at(stage.span, "this stage")
                    .help("run it on a machine with enough GPUs, or on the CPU with --device cpu"),
            );
        }
    }
    diagnostics
}

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
