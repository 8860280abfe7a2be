//! Writes the archive that a kernel unpacks at boot: the `newc` format, uncompressed, because a
//! processor that is emulated unpacks slowly.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

/// An archive that is being written.
pub(crate) struct Cpio<W: Write> {
    out: W,
    /// So far, each with another inode number: equal ones would be links.
    entries: u32,
}

impl<W: Write> Cpio<W> {
    /// Starts an archive.
    pub(crate) fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    /// A directory. Its parent must have been written.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// A file that can be executed.
    pub(crate) fn file(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        self.entry(path, FILE, (0, 0), data)
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(path, DEVICE, (major, minor), &[])
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        (major, minor): (u32, u32),
        data: &[u8],
    ) -> io::Result<()> {
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, "file of 4 GiB or more");
        self.entries += 1;
        let size = u32::try_from(data.len()).map_err(too_large)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_large)?;
        // inode, mode, uid, gid, links, time, size, device, device of a node, name's size, sum
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        header.push_str(path);
        header.push('\0');
        self.out.write_all(header.as_bytes())?;
        self.pad(header.len())?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    /// Headers and data end at multiples of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out
            .write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}
