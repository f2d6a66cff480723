//! Merging shards into one WASM module, and the sections that describe it.
//!
//! Owns `container.wasm`: address slots, the merged module, `_dispatch`, the custom sections and the image of the original segments. Refuses to own x86 (`lift`), native code and
//! signing (`recompiler-build`). The fact a newcomer gets wrong: the runtime does not instantiate this module, it binds the AOT artifacts of the shards it was merged
//! from; the merged form is what other tools, and `verify`, look at, and what guest segments are mapped from.
//!
//! Shape of the module: memories are *imported* (`vk.mem`, `vk.cpu`, `vk.codemap`, as in a shard) because the host shares two of them between threads and owns the
//! third per thread; the table is *defined* and exported as `table`, because its contents are all here: slot 0 is the miss stub, then one contiguous range per form of each shard.
//! Functions: the two host imports and those of WASI that are used, then per shard its structured and its resumable functions, then those of each WASI program, then the miss stub and `_dispatch`. A WASI program has its own memory, tables, globals and
//! segments, behind the shared ones.
#![forbid(unsafe_code)]

mod dispatch;
mod exceptions;
mod image;
mod merge;
mod probe;
mod reindex;
pub mod section;
pub mod slots;
mod wasi;

pub use dispatch::{DispatchError, check_dispatch};
pub use image::{ImageSegment, PAGE_BYTES};
pub use merge::{Megabinary, MergeError, Program, ShardInput, merge, shard_digest};
pub use probe::{STARTED, dispatch_probe};
pub use wasi::{WasiFacts, WasiInput, features as wasi_features, read_wasi, wasi_digest};

/// Changes when the merged form changes: stands in `vkernel.meta` and is part of cache keys.
pub const FORMAT_VERSION: u32 = 2;
