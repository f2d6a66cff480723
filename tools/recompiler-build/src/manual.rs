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
.SH POLICY
.B \-\-policy FILE
is a JSON object; what it leaves out is as without a file.
.TP
.B default_syscalls
names of system calls that every program may make whose row does not say otherwise
.TP
.BR syscalls ": default | analysed"
With analysed, a program whose code is bounded may make the calls that this code and the libraries it is linked with can make, as far as
.B default_syscalls
has them, and no other. Its row has
.BR without_default .
A program is bounded if the analysis knows the call at every place and the program opens no more objects (dlopen). The others have the default list; the build names them, each with its number of unknown places. Threads, plugins and shells are among them.
What libc opens on its own (name services, character sets) and what LD_PRELOAD names is in no list: calls that only such libraries make are refused; add them by
.BR overrides .
.TP
.BR networking ", " forbid_permissive
none, loopback, restricted or host; true if no host may run the release with \-\-permissive
.TP
.BR scripts ": any | listed"
With listed, a script runs only if a row of the manifest has its hash: whether it is executed itself or named to an interpreter
.RB ( "bash ./x" ).
Which scripts have rows is said by
.B \-\-scripts
and
.BR \-\-include ;
the latter also takes program text without a #! line, by its suffix
.RB ( "\-\-include /app/main.py" ).
A build without
.B \-\-scripts all
says how many scripts its programs could run and have no row.
A row names the interpreter's hash, too: replaced by another file, even a listed one, it does not run the script.
.TP
.BR inline ": allow | audit | deny"
What becomes of program text that an interpreter is given on its command line
.RB ( "sh \-c" ", " "python3 \-c" ", " "awk \(aqBEGIN ...\(aq" )
or reads from standard input, another descriptor, or the caller's home (login and interactive shells). With deny the exec is EACCES, for system(3) too; with audit it runs, and its record has the reason inline\-audited.
.TP
.B overrides
from a program's path to what is different for it:
.B syscalls
(added to the default ones, or to those from its code),
.B without_default
(true if syscalls is its whole list, whatever its code says),
.B inline
(instead of the global one),
.B strip
(variables that it does not get: names, or beginnings of names followed by *), and
.B interpreter
(how its command line is read).
.PP
Interpreters are known by a catalogue: bash, dash, busybox, python, perl, awk, node, lua and ruby. Its row is written into the manifest where the file has no
.B interpreter
for a program of such a name; and, where rules about scripts or program text hold for it, its list of variables where the file has no
.B strip
(BASH_ENV, PYTHON*, PERL*, LD_* ...; an empty list strips nothing). Without such rules nothing is stripped. A row
.RB ( "recompiler\-build schema" )
lists the options that leave the named file in charge:
.B flags
(letters that may share a word),
.B words
(whole words, and options with one value, \(dq\-o errexit\(dq),
.B values
(options with any value),
.B files
(options whose value is a file of program text, which must be listed) and
.B ends
(options after which nothing runs). Every other option counts as program text. For instance, a program that takes a script and nothing else:
.PP
.nf
{"scripts": "listed", "inline": "deny", "overrides": {"/opt/shop/rules": {"interpreter": {"words": ["\-\-"]}, "strip": ["RULES_*"]}}}
.fi
.PP
What these rules do not cover: what a running interpreter reads besides
.RB ( source ", " import ", " eval ;
python imports from the directory of a script, or of a copy of it).
The text that was decided about is what the interpreter gets when it opens the script's name, whatever lies there by then; unless the script was executed by a descriptor (execveat), or the interpreter follows links itself.
A worker that was taken over can tell other arguments than it uses; it runs nothing but signed code.
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
.SH "DETACHED SIGNATURES"
The manifest names every other file by its hash, so a signature of
.I manifest.json
by minisign, signify or
.B ssh\-keygen \-Y sign
is one of the whole release. Make it last, since
.B sign
changes the file:
.PP
.nf
minisign \-S \-m out/manifest.json
ssh\-keygen \-Y sign \-f KEY \-n vkernel out/manifest.json
.fi
.PP
Hosts do not ask for such signatures: they are for people.
"#;
