//! recompiler-build(1): what the command line says of itself, and what it cannot say.

use crate::cli::Cli;
use clap::CommandFactory;

/// The page in roff.
pub fn page() -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    page.extend_from_slice(MANUAL_TAIL.as_bytes());
    Ok(page)
}

/// Behind what the command line says of itself.
const MANUAL_TAIL: &str = r#".SH "FILES BESIDE THE MANIFEST"
For a manifest called manifest.json:
.TP
.I manifest.sigstore.json
an in\-toto statement in a DSSE envelope in a Sigstore bundle: container.wasm, native code and every file that may run, by SHA\-256; for cosign, securesystemslib and their kin.
A second key's is called manifest.KEY.sigstore.json, because a bundle holds one signature.
.TP
.I manifest.provenance.json
how and from what the release was built, a SLSA v1 provenance that nobody signed yet
.TP
.I manifest.provenance.sigstore.json
the same, signed
.TP
.IR manifest.proof.json ", " manifest.proof/
what commands did natively and under vkernel alike
.RB ( prove ),
and the bytes by their SHA\-256
.TP
.IR NAME.spdx.json ", " NAME.cdx.json
what a bill of materials is called that goes along
.PP
.B push
ships all of them, each as an artifact of its format's media type that refers to the release, and
.B pull
brings them back.
.BR vkernel (1)
believes none of them for a run: the manifest's own signature is what counts.
.B vkernel prove \-\-replay
asks the proof again.
.SH "HOW TO ROTATE A KEY"
A manifest can carry signatures of several keys, and a host believes it if one of the keys that it trusts signed
.RB ( \-\-threshold
N of them). So no release and no host has to change at the same moment.
.IP 1. 4
Make the new key:
.B recompiler\-build keygen new.key
.IP 2. 4
Sign every release that is to go on with both:
.B recompiler\-build sign manifest.json \-\-key new.key
keeps the old signature. Builds take one key; sign their manifests with the other afterwards.
.IP 3. 4
Copy new.pub into /etc/vkernel/keys of every host
.RB ( "vkernel serve" :
then SIGHUP). Check with
.B recompiler\-build verify manifest.json \-\-key new.pub
that the releases there can do without the old key.
.IP 4. 4
Remove the old .pub from the hosts and, if the key may be in somebody else's hands, revoke it: add its id or fingerprint to /etc/vkernel/revoked.json,
.BR "{\(dqkeys\(dq: [\(dqold\(dq]}" .
A revoked key counts for nothing, whatever its signature calls itself and whoever trusts it;
.B recompiler\-build verify \-\-revoked FILE
says what a host with such a list would say.
.IP 5. 4
Build with the new key from now on.
.SH "A KEY IN HARDWARE"
.B \-\-signer COMMAND \-\-signer\-public FILE
call a program in the place of reading a private key. Each call gets the bytes to sign on standard input: a prefix that says what is signed, and the document
(\(dqvkernel manifest signature v1\(dq, a zero byte and the canonical manifest without its signatures; \(dqDSSEv1\(dq and so on for bundles). It must make an Ed25519 signature of these bytes, not of their hash. For openssl, in a script:
.PP
.nf
exec openssl pkeyutl \-sign \-rawin \-inkey "$KEY" \-in /dev/stdin
.fi
"#;
