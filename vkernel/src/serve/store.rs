//! Where a daemon keeps what its successor needs: the service manager's descriptor store if there is one, a holder otherwise. Owns the choice and the same three verbs for both.
//!
//! The fact a newcomer gets wrong: systemd lets go of what it stores when the unit has failed for good or was stopped; that is the deadline there, after which execs fail.

use super::holder::Holder;
use super::parcel::Parcel;
use crate::failure::Failure;
use sd_notify::NotifyState;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub(super) enum Store {
    Systemd,
    Holder(Holder),
}

impl Store {
    /// The store, and what the last daemon left in it. `passed`: what the service manager gave this process.
    pub(super) fn open(directory: &Path, seconds: u64, passed: Vec<(String, OwnedFd)>) -> Result<(Self, Vec<Parcel>), Failure> {
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            return Ok((Self::Systemd, Parcel::of_held(passed)));
        }
        let (holder, held) = Holder::find(&directory.join("holder"), seconds)?;
        Ok((Self::Holder(holder), Parcel::of_held(held)))
    }

    fn keep_one(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            // Whether it is still of use is ours to say, also when the container ended: its journal may hold a record.
            Self::Systemd => sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")], &[fd]),
            Self::Holder(holder) => holder.keep(name, fd),
        }
    }

    pub(super) fn keep(&self, parcel: &Parcel) -> io::Result<()> {
        parcel.parts().try_for_each(|(name, fd)| self.keep_one(&name, fd))
    }

    pub(super) fn let_go_of(&self, name: &str) {
        // One that does not answer has let go of everything.
        let _ = match self {
            Self::Systemd => sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]),
            Self::Holder(holder) => holder.let_go(name),
        };
    }

    pub(super) fn let_go(&self, parcel: &Parcel) {
        parcel.parts().for_each(|(name, _)| self.let_go_of(&name));
    }

    /// Becomes readable when what is kept must be kept again, after `renew`.
    pub(super) fn lost(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Systemd => None,
            Self::Holder(holder) => Some(holder.as_fd()),
        }
    }

    /// A holder that holds nothing ends with its daemon.
    pub(super) fn end(&self, empty: bool) {
        if let (Self::Holder(holder), true) = (self, empty) {
            holder.forget();
        }
    }

    pub(super) fn renew(&mut self) -> Result<(), Failure> {
        match self {
            Self::Systemd => Ok(()),
            Self::Holder(holder) => holder.replace(),
        }
    }
}
