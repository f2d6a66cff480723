//! Applying layers to a directory: `apply` takes a tar stream, plain or compressed, and changes a tree as the OCI image specification says.
//!
//! Owns what an entry means for a tree that earlier layers made: replacement, whiteouts, opaque directories, hard links. Bytes of the archive are `reader`'s, system calls `tree`'s. The fact a newcomer gets wrong: a
//! whiteout hides what *lower* layers made, wherever in the archive it stands; so what this layer made is remembered until its end.

mod compression;
mod error;
mod limits;
mod listing;
mod member;
mod path;
mod reader;
mod tree;

pub use compression::{Hashed, decompressed};
pub use error::LayerError;
pub use limits::{Budget, DEFAULT_BYTES, INTERRUPTED};
pub use listing::{Listed, members};

use member::{Kind, Member};
use path::Inside;
use reader::Members;
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use tree::{Dir, Obstacle, Tree};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const RESERVED: &[u8] = b".wh..wh.";

/// Data is written in such pieces; one that is all zeros becomes a hole.
const PIECE_BYTES: usize = 256 << 10;

/// What a layer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub entries: u64,
    pub removed: u64,
    /// Extended attributes that are not an image's to set, or that the file system does not take.
    pub attributes_left_out: u64,
    /// Devices and FIFOs that only root can make.
    pub devices_left_out: u64,
}

struct Layer<'b, R> {
    tree: Tree,
    members: Members<'b, R>,
    /// What this layer made; true for symlinks.
    made: BTreeMap<Inside, Made>,
    /// Directories whose permissions and times are set at the end.
    directories: BTreeMap<Inside, (u32, (i64, u32))>,
    done: Applied,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Directory,
    Symlink,
    Other,
}

/// Applies one uncompressed layer to the tree below `root`. When it fails the tree is half changed and must be thrown away.
pub fn apply(input: impl Read, root: &Path, budget: &mut Budget) -> Result<Applied, LayerError> {
    let tree = Tree::open(root).map_err(|source| LayerError::Host { path: root.display().to_string(), what: "cannot open the directory to unpack into", source })?;
    let mut layer = Layer { tree, members: Members::new(input, budget), made: BTreeMap::new(), directories: BTreeMap::new(), done: Applied::default() };
    while let Some(member) = layer.members.next()? {
        layer.done.entries += 1;
        layer.member(&member)?;
    }
    layer.members.drain()?;
    layer.finish()
}

impl<R: Read> Layer<'_, R> {
    fn member(&mut self, member: &Member) -> Result<(), LayerError> {
        let path = Inside::parse(&member.path)?;
        if member.uid == u32::MAX || member.gid == u32::MAX {
            return Err(LayerError::Path { path: path.show(), reason: "its owner is the number that means nobody" });
        }
        let Some((above, part)) = path.split() else {
            // The root itself: only its permissions count.
            if member.kind == Kind::Directory {
                self.directories.insert(path, (member.mode, (member.mtime_seconds, member.mtime_nanoseconds)));
            }
            return Ok(());
        };
        if part.starts_with(WHITEOUT) {
            return self.whiteout(&path, &above, part);
        }
        let dir = self.parent(&above, &path)?;
        let place = dir.path.join(part);
        self.check_new(&place, member)?;
        match member.kind {
            Kind::Directory => self.directory(&dir, part, member)?,
            Kind::HardLink => self.hard_link(&dir, part, member)?,
            Kind::Character { major: 0, minor: 0 } => return Err(LayerError::Path { path: path.show(), reason: "it is overlayfs's own mark of a removed file" }),
            Kind::Character { .. } | Kind::Block { .. } | Kind::Fifo if !self.tree.privileged => {
                self.done.devices_left_out += 1;
                return Ok(());
            }
            _ => self.leaf(&dir, part, member)?,
        }
        let made = match member.kind {
            Kind::Directory => Made::Directory,
            Kind::Symlink => Made::Symlink,
            _ => Made::Other,
        };
        self.made.insert(place, made);
        Ok(())
    }

    /// An entry may name what a lower layer made, and a directory may be named again; nothing else may stand twice.
    fn check_new(&self, place: &Inside, member: &Member) -> Result<(), LayerError> {
        let again = match self.made.get(place) {
            Some(Made::Directory) => member.kind != Kind::Directory,
            Some(_) => true,
            None => member.kind != Kind::Directory && self.made_below(place),
        };
        if again { Err(LayerError::Duplicate { path: place.show() }) } else { Ok(()) }
    }

    fn made_below(&self, place: &Inside) -> bool {
        let prefix = place.below();
        self.made.range(prefix.clone()..).next().is_some_and(|(p, _)| p.is_below(&prefix))
    }

    /// The directory an entry goes into; missing ones are made, symlinks of lower layers are followed inside the image.
    fn parent(&mut self, above: &Inside, entry: &Inside) -> Result<Dir, LayerError> {
        match self.find(above, entry, true)? {
            Some(dir) => Ok(dir),
            None => Err(LayerError::NotADirectory { path: entry.show(), above: above.show() }),
        }
    }

    /// `None`: not there, and not to be made.
    fn find(&mut self, above: &Inside, entry: &Inside, make: bool) -> Result<Option<Dir>, LayerError> {
        match self.tree.directory(above)? {
            Ok(dir) => return Ok(Some(dir)),
            Err(Obstacle::NotADirectory(what)) if make => return Err(LayerError::NotADirectory { path: entry.show(), above: what.show() }),
            Err(Obstacle::NotADirectory(_)) => return Ok(None),
            Err(Obstacle::Missing | Obstacle::Symlink(_)) => {}
        }
        let mut at = self.tree.root();
        for part in above.parts() {
            let below = at.path.join(part);
            at = match self.tree.directory(&below)? {
                Ok(dir) => dir,
                Err(Obstacle::Missing) if make => {
                    self.tree.make_directory(&at, part)?;
                    self.made.insert(below.clone(), Made::Directory);
                    self.tree.subdirectory(&at, part)?
                }
                Err(Obstacle::Missing) => return Ok(None),
                Err(Obstacle::Symlink(link)) if self.made.get(&link) == Some(&Made::Symlink) => {
                    return Err(LayerError::ThroughSymlink { path: entry.show(), link: link.show() });
                }
                Err(Obstacle::Symlink(link)) => match self.tree.followed(&link)? {
                    Some(dir) => dir,
                    None => return Err(LayerError::NotADirectory { path: entry.show(), above: link.show() }),
                },
                Err(Obstacle::NotADirectory(what)) => return Err(LayerError::NotADirectory { path: entry.show(), above: what.show() }),
            };
        }
        Ok(Some(at))
    }

    fn directory(&mut self, dir: &Dir, part: &[u8], member: &Member) -> Result<(), LayerError> {
        if self.tree.kind(dir, part)? != Some(FileType::Directory) {
            self.replace(dir, part)?;
            self.tree.make(dir, part, member)?;
        }
        self.done.attributes_left_out += self.tree.dress(dir, part, member)?;
        self.directories.insert(dir.path.join(part), (member.mode, (member.mtime_seconds, member.mtime_nanoseconds)));
        Ok(())
    }

    fn leaf(&mut self, dir: &Dir, part: &[u8], member: &Member) -> Result<(), LayerError> {
        if member.kind == Kind::Symlink {
            member::check_target(member)?;
        }
        self.replace(dir, part)?;
        if let Some(fd) = self.tree.make(dir, part, member)? {
            self.write(File::from(fd), member, &dir.path.join(part))?;
        }
        self.done.attributes_left_out += self.tree.dress(dir, part, member)?;
        Ok(())
    }

    fn replace(&mut self, dir: &Dir, part: &[u8]) -> Result<(), LayerError> {
        self.tree.remove(dir, part)
    }

    fn hard_link(&mut self, dir: &Dir, part: &[u8], member: &Member) -> Result<(), LayerError> {
        member::check_target(member)?;
        let target = Inside::parse(&member.link)?;
        let refuse = |reason| LayerError::HardLink { path: tree::shown(dir, part), target: target.show(), reason };
        let Some((above, target_part)) = target.split() else { return Err(refuse("is the root")) };
        let from = self.find(&above, &target, false)?.ok_or_else(|| refuse("is not there"))?;
        match self.tree.kind(&from, target_part)? {
            None => return Err(refuse("is not there")),
            Some(FileType::Directory) => return Err(refuse("is a directory")),
            Some(_) if from.path.join(target_part) == dir.path.join(part) => return Err(refuse("is the link itself")),
            Some(_) => {}
        }
        self.replace(dir, part)?;
        self.tree.link(&from, target_part, dir, part)
    }

    fn write(&mut self, file: File, member: &Member, path: &Inside) -> Result<(), LayerError> {
        let failed = |source| LayerError::Host { path: path.show(), what: "cannot write it", source };
        match member.sparse {
            None => self.members.budget.affords(member.size)?,
            Some(_) => self.members.budget.sparse(member.size)?,
        }
        let whole = [member::Extent { offset: 0, bytes: member.stored }];
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(member.stored).unwrap_or(PIECE_BYTES).max(1))];
        for extent in member.sparse.as_deref().unwrap_or(&whole) {
            (&file).seek(SeekFrom::Start(extent.offset)).map_err(failed)?;
            let mut left = extent.bytes;
            while left > 0 {
                let want = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let mut filled = 0;
                while filled < want {
                    match self.members.read(&mut piece[filled..want])? {
                        0 => return Err(LayerError::Truncated("it ends within a file's data")),
                        n => filled += n,
                    }
                }
                if filled == PIECE_BYTES && piece.iter().all(|b| *b == 0) {
                    (&file).seek_relative(filled as i64).map_err(failed)?;
                } else {
                    (&file).write_all(&piece[..filled]).map_err(failed)?;
                }
                left -= filled as u64;
            }
        }
        file.set_len(member.size).map_err(failed)
    }

    fn whiteout(&mut self, path: &Inside, above: &Inside, part: &[u8]) -> Result<(), LayerError> {
        if part == OPAQUE {
            if let Some(dir) = self.find(above, path, false)? {
                for child in self.tree.names(&dir)? {
                    self.remove_lower(&dir, &child)?;
                }
            }
            return Ok(());
        }
        // aufs kept its own files under such names.
        if part.starts_with(RESERVED) {
            return Ok(());
        }
        let name = &part[WHITEOUT.len()..];
        if matches!(name, b"" | b"." | b"..") {
            return Err(LayerError::Path { path: path.show(), reason: "it removes nothing that could be named" });
        }
        match self.find(above, path, false)? {
            Some(dir) => self.remove_lower(&dir, name),
            None => Ok(()),
        }
    }

    /// Removes what lower layers made; what this layer made stays, with the directories that lead to it.
    fn remove_lower(&mut self, dir: &Dir, part: &[u8]) -> Result<(), LayerError> {
        let place = dir.path.join(part);
        let made = self.made.get(&place).copied();
        if made.is_none() && !self.made_below(&place) {
            self.done.removed += u64::from(self.tree.kind(dir, part)?.is_some());
            return self.tree.remove(dir, part);
        }
        if self.tree.kind(dir, part)? == Some(FileType::Directory) {
            let below = self.tree.subdirectory(dir, part)?;
            for child in self.tree.names(&below)? {
                self.remove_lower(&below, &child)?;
            }
        }
        Ok(())
    }

    /// Deepest first, so that setting a directory's time comes after everything below it.
    fn finish(mut self) -> Result<Applied, LayerError> {
        for (path, (mode, time)) in std::mem::take(&mut self.directories).into_iter().rev() {
            if let Ok(dir) = self.tree.directory(&path)? {
                self.tree.finish_directory(&dir, mode, time)?;
            }
        }
        Ok(self.done)
    }
}
