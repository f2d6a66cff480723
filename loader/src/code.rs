//! The code table: from a slot to the address of structured code, for the whole process.
//!
//! Owns that array. Structured code keeps no instance: everything it needs of the runtime it finds behind `CpuState` (`abi::Links`), so one table serves every thread. The fact a newcomer
//! gets wrong: wasmer tells the addresses of a module's functions through an instance only, so each module gets one, for as long as this takes.

use crate::megabinary::{LoadError, Shard};
use crate::native;
use crate::reservation::Reservation;
use crate::world::World;
use std::sync::Arc;
use wasmer::{Engine, Store};

/// Addresses by slot; the miss stub's where no structured function is.
pub(crate) struct Code {
    addresses: Box<[usize]>,
}

impl Code {
    pub(crate) fn new(engine: &Engine, shards: &[Shard], slots: u32, window: &Arc<Reservation>, codemap: &Arc<Reservation>) -> Result<Self, LoadError> {
        let mut addresses = vec![native::miss as *const () as usize; slots as usize];
        let mut store = Store::new(engine.clone());
        let cpu = Arc::new(Reservation::new().map_err(LoadError::Reserve)?);
        let mut world = World::new(&mut store, window, &cpu, codemap, std::ptr::null_mut(), slots);
        for shard in shards {
            world.instance(&mut store, &shard.structured, shard.structured_base).map_err(|text| LoadError::Instance { shard: shard.name.clone(), text })?;
            for slot in shard.structured_base..shard.resumable_base {
                if let Some(function) = world.function(slot) {
                    addresses[slot as usize] = function.func_ptr as usize;
                }
            }
        }
        drop(world);
        drop(store);
        // What the instances held would otherwise be copied by every fork of this process.
        // SAFETY: a request to the allocator, which every thread may make at any time.
        unsafe { libc::malloc_trim(0) };
        Ok(Self { addresses: addresses.into() })
    }

    pub(crate) fn table(&self) -> *const usize {
        self.addresses.as_ptr()
    }

    pub(crate) fn address(&self, slot: u32) -> usize {
        self.addresses[slot as usize]
    }
}
