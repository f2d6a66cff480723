//! The command line of `vkernel-image`. Owns names, defaults and help texts. The fact a newcomer gets wrong: people rarely type this program's name; `recompiler-build` and `vkernel` start it.

use crate::pull::When;
use crate::push::Form;
use crate::writer::Compression;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Get and ship container images and releases: registries, OCI layouts, archives.
///
/// Images are written docker://HOST/NAME[:TAG][@sha256:DIGEST] (or without docker://), oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME:TAG] or dir:DIR.
#[derive(Parser, Debug)]
#[command(name = "vkernel-image", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub access: AccessArgs,
}

const EXAMPLES: &str = "Examples:
  vkernel-image unpack oci:layout:debian
  vkernel-image push out/manifest.json docker://registry.example/shop:1 --image docker://registry.example/debian:12
  vkernel-image push --form artifact out/manifest.json docker://registry.example/shop:1-vkernel --image docker://registry.example/shop:1
  vkernel-image pull docker://registry.example/shop:1";

/// How registries are reached and what images may cost.
#[derive(Args, Debug)]
pub struct AccessArgs {
    /// Trust this certificate authority (PEM) for registries, besides the system's; may be repeated
    #[arg(long, global = true, value_name = "FILE")]
    pub registry_ca: Vec<PathBuf>,
    /// Speak to this registry (HOST[:PORT]) without TLS; may be repeated. This machine's own addresses need no mention
    #[arg(long, global = true, value_name = "HOST")]
    pub plain_http: Vec<String>,
    /// Refuse images that unpack to more
    #[arg(long, global = true, value_name = "BYTES", default_value_t = crate::layer::DEFAULT_BYTES)]
    pub max_bytes: u64,
    /// Directory of downloaded blobs and unpacked images [default: $XDG_CACHE_HOME/vkernel]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Unpack an image; prints its root directory
    Unpack { image: String },
    /// Get a release with its image; prints the directory that holds manifest.json and rootfs
    Pull {
        image: String,
        /// When to ask the registry
        #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
        pull: When,
    },
    /// Fetch named files of a build cache
    #[command(hide = true)]
    BundleGet {
        from: String,
        into: PathBuf,
        /// Names, one a line
        #[arg(long, value_name = "FILE")]
        names: PathBuf,
    },
    /// Store the files of a directory as a build cache
    #[command(hide = true)]
    BundlePut {
        directory: PathBuf,
        to: String,
        /// Names of files to keep of what is stored already, one a line
        #[arg(long, value_name = "FILE")]
        keep: PathBuf,
    },
    /// Ship a release, inside its image or beside it, with the bundles, provenance, SBOMs (*.spdx.json, *.cdx.json) and proof beside its manifest
    Push {
        /// The release's manifest; its files lie next to it
        manifest: PathBuf,
        /// docker://HOST/NAME:TAG or oci:DIR:TAG
        to: String,
        /// The image the release was built from
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,
        #[arg(long, value_enum, default_value_t)]
        form: Form,
        /// Of layers that are made here
        #[arg(long, value_enum, default_value_t)]
        compression: Compression,
    },
}
