//! What kind of file system a cache is on: sled and `flock` need one of this machine's own.

use std::path::Path;

/// A kind of file system, as far as it matters to a cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystem {
    /// On a disk of this machine, or in its memory.
    Local,
    /// Shared with other machines: renames are atomic, but locks may be local or missing, and sled
    /// is not safe.
    Network(&'static str),
}

/// The numbers that `statfs` gives for file systems that are not local, from the kernel's `magic.h`
/// and their sources.
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
    /// The file system that a folder is on. One that cannot be asked counts as local: it will say
    /// what it cannot do.
    pub fn of(folder: &Path) -> Self {
        rustix::fs::statfs(folder).map_or(FileSystem::Local, |stat| Self::from_magic(magic(&stat)))
    }

    /// The kind with this number.
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
    fn tells_network_from_local() {
        // The numbers are those of statfs(2) and of Lustre's own header, written here once more.
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
