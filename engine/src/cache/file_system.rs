//! The kind of file system that a cache is on: sled and `flock` need a local one.

use std::path::Path;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystem {
    /// On a disk of this machine, or in its memory.
    Local,
    /// Shared with other machines: renames are atomic, but locks may be local or missing, and sled
    /// is not safe.
    Network(&'static str),
}

/// The magic numbers that `statfs` gives for file systems that are not local, from the kernel's
/// `magic.h` and their sources.
const NETWORK: [(u64, &str); 12] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0102_1997, "9P"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x7461_636f, "OCFS2"),
];

impl FileSystem {
    /// The file system that a folder is on. Where `statfs` fails it counts as local: what it cannot
    /// do fails later, with an error of its own.
    pub fn of(folder: &Path) -> Self {
        rustix::fs::statfs(folder).map_or(FileSystem::Local, |stat| Self::from_magic(magic(&stat)))
    }

    fn from_magic(magic: u64) -> Self {
        let known = NETWORK.iter().find(|(number, _)| *number == magic);
        known.map_or(FileSystem::Local, |(_, name)| FileSystem::Network(name))
    }
}

/// The number is an unsigned word of 32 bits that some platforms widen with its sign.
fn magic(stat: &rustix::fs::StatFs) -> u64 {
    (stat.f_type as u64) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_recognized() {
        // The numbers are those of statfs(2) and of Lustre's own header, repeated here on purpose.
        let network = [
            ("NFS", 0x6969),
            ("SMB", 0x517b),
            ("CIFS", 0xff53_4d42),
            ("SMB2", 0xfe53_4d42),
            ("Lustre", 0x0bd0_0bd0),
            ("FUSE", 0x6573_5546),
        ];
        for (name, magic) in network {
            assert_eq!(FileSystem::from_magic(magic), FileSystem::Network(name));
        }
        let local = [
            ("ext4", 0xef53),
            ("tmpfs", 0x0102_1994),
            ("xfs", 0x5846_5342),
            ("overlay", 0x794c_7630),
        ];
        for (name, magic) in local {
            assert_eq!(FileSystem::from_magic(magic), FileSystem::Local, "{name}");
        }
        assert_eq!(FileSystem::of(&std::env::temp_dir()), FileSystem::Local);
    }
}
