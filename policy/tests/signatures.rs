//! Signatures, keys, thresholds, revocation and the decisions that follow from a verified manifest.

use policy::key::{KeyError, PrivateKey, PublicKey};
use policy::{Decision, Digest, Reason, Revocations, TrustedKeys, Verified, VerifyError, canonical, memory, signature, verify};
use policy::{Pin, decide_exec, decide_library, decide_pin, decide_serial};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const RUNNING: &str = "0.1.0";

fn manifest() -> Value {
    canonical::parse(include_bytes!("manifests/accept/minimal.json")).unwrap()
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed([seed; 32])
}

fn signed_by(seeds: &[u8]) -> Vec<u8> {
    let mut value = manifest();
    for &seed in seeds {
        signature::sign(&mut value, &key(seed), &format!("key{seed}"));
    }
    canonical::to_bytes(&value)
}

fn trusted(seeds: &[u8]) -> TrustedKeys {
    TrustedKeys::of(seeds.iter().map(|&s| key(s).public(&format!("key{s}"))))
}

fn check(bytes: &[u8], keys: &TrustedKeys, threshold: usize) -> Result<Verified, VerifyError> {
    verify(bytes, keys, threshold, &Revocations::default(), RUNNING)
}

fn digest(digit: char) -> Digest {
    format!("blake3:{}", digit.to_string().repeat(64)).parse().unwrap()
}

#[test]
fn refuses_a_manifest_with_any_byte_flipped() {
    let good = signed_by(&[1]);
    check(&good, &trusted(&[1]), 1).unwrap();
    for i in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[i] ^= 1;
        // The key id is a claim outside the signature: changing it changes nothing that is trusted.
        let claim = String::from_utf8_lossy(&good).find("key1").unwrap();
        assert!(check(&bad, &trusted(&[1]), 1).is_err() || (claim..claim + 4).contains(&i), "byte {i}");
    }
}

#[test]
fn refuses_an_unsigned_manifest_and_one_signed_by_a_stranger() {
    let unsigned = canonical::to_bytes(&manifest());
    assert!(check(&unsigned, &trusted(&[1]), 1).unwrap_err().to_string().contains("no signatures"));
    assert!(check(&signed_by(&[2]), &trusted(&[1]), 1).unwrap_err().to_string().contains("key2: no trusted key fits"));
}

#[test]
fn a_threshold_counts_distinct_keys_not_ids() {
    assert_eq!(check(&signed_by(&[1, 2]), &trusted(&[1, 2, 3]), 2).unwrap().signers().len(), 2);
    let mut twice = manifest();
    signature::sign(&mut twice, &key(1), "a");
    signature::sign(&mut twice, &key(1), "b");
    let same_key_under_two_names = TrustedKeys::of([key(1).public("a"), key(1).public("b")]);
    let error = check(&canonical::to_bytes(&twice), &same_key_under_two_names, 2).unwrap_err();
    assert!(error.to_string().contains("1 of 2 required"), "{error}");
}

#[test]
fn a_threshold_of_zero_still_wants_a_signature() {
    assert!(check(&signed_by(&[2]), &trusted(&[1]), 0).is_err());
}

#[test]
fn a_signature_is_not_valid_without_the_domain_prefix() {
    let mut value = manifest();
    let plain = policy::digest::hex(&key(1).sign(&canonical::to_bytes(&value)));
    value["signatures"] = serde_json::json!({ "key_id": "key1", "signature": plain });
    assert!(check(&canonical::to_bytes(&value), &trusted(&[1]), 1).is_err());
}

#[test]
fn a_revoked_key_does_not_count_whatever_it_calls_itself() {
    for revoked in ["key1".to_owned(), key(1).public("").fingerprint()] {
        let list = Revocations { keys: [revoked].into(), ..Revocations::default() };
        let error = verify(&signed_by(&[1]), &trusted(&[1]), 1, &list, RUNNING).unwrap_err();
        assert!(error.to_string().contains("key is revoked"), "{error}");
        verify(&signed_by(&[2]), &trusted(&[2]), 1, &list, RUNNING).unwrap();
    }
}

#[test]
fn a_revoked_artifact_refuses_the_whole_manifest() {
    let list = Revocations { files: [digest('e')].into(), ..Revocations::default() };
    assert!(verify(&signed_by(&[1]), &trusted(&[1]), 1, &list, RUNNING).unwrap_err().to_string().contains("is revoked"));
}

#[test]
fn decides_exec_by_digest_size_role_and_revocation() {
    let v = check(&signed_by(&[1]), &trusted(&[1]), 1).unwrap();
    assert_eq!(decide_exec(&v, &digest('1'), 16384), Decision::Allow { entry: 1 });
    assert_eq!(decide_exec(&v, &digest('1'), 16385), Decision::Refuse(Reason::SizeMismatch));
    assert_eq!(decide_exec(&v, &digest('2'), 16384), Decision::Refuse(Reason::NotAProgram));
    assert_eq!(decide_exec(&v, &digest('3'), 16384), Decision::Allow { entry: 3 });
    assert_eq!(decide_exec(&v, &digest('4'), 5), Decision::Allow { entry: 4 });
    assert_eq!(decide_exec(&v, &digest('5'), 5), Decision::Refuse(Reason::Omitted));
    assert_eq!(decide_exec(&v, &digest('a'), 5), Decision::Refuse(Reason::UnknownHash));
    let list = Revocations { files: [digest('1')].into(), ..Revocations::default() };
    let v = verify(&signed_by(&[1]), &trusted(&[1]), 1, &list, RUNNING).unwrap();
    assert_eq!(decide_exec(&v, &digest('1'), 16384), Decision::Refuse(Reason::Revoked));
}

#[test]
fn decides_libraries_apart_from_programs() {
    let v = check(&signed_by(&[1]), &trusted(&[1]), 1).unwrap();
    assert_eq!(decide_library(&v, &digest('2'), 16384), Decision::Allow { entry: 2 });
    assert_eq!(decide_library(&v, &digest('3'), 16384), Decision::Allow { entry: 3 });
    assert_eq!(decide_library(&v, &digest('1'), 16384), Decision::Refuse(Reason::NotALibrary));
    assert_eq!(decide_library(&v, &digest('2'), 1), Decision::Refuse(Reason::SizeMismatch));
    assert_eq!(decide_library(&v, &digest('a'), 1), Decision::Refuse(Reason::UnknownHash));
    assert!(v.library(2).is_some() && v.library(1).is_none() && v.program(1).is_some() && v.program(0).is_none());
}

#[test]
fn a_release_is_never_followed_by_an_older_one() {
    let v = check(&signed_by(&[1]), &trusted(&[1]), 1).unwrap();
    assert_eq!((decide_serial(&v, None), decide_serial(&v, Some(1))), (Ok(()), Ok(())));
    assert_eq!(decide_serial(&v, Some(2)), Err(Reason::Replayed));
}

#[test]
fn openssl_reads_the_keys_and_checks_the_signature() {
    let dir = std::env::temp_dir().join(format!("vkernel-policy-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let (private, public) = (dir.join("k.pem"), dir.join("k.pub"));
    let made = PrivateKey::generate().unwrap();
    made.write(&private).unwrap();
    made.write_public(&public).unwrap();
    assert!(matches!(made.write(&private), Err(KeyError::Write { .. })), "an existing key is never replaced");
    let mut value = manifest();
    signature::sign(&mut value, &PrivateKey::read(&private).unwrap(), "k");
    let bytes = policy::digest::unhex::<64>(value["signatures"]["signature"].as_str().unwrap()).unwrap();
    std::fs::write(dir.join("message"), signature::message(&value)).unwrap();
    std::fs::write(dir.join("signature"), bytes).unwrap();
    let openssl = |args: &[&str]| Command::new("openssl").args(args).current_dir(&dir).output().expect("openssl is installed");
    let out = openssl(&["pkeyutl", "-verify", "-pubin", "-inkey", "k.pub", "-rawin", "-in", "message", "-sigfile", "signature"]);
    let derived = openssl(&["pkey", "-in", "k.pem", "-pubout"]);
    let mode_open = std::fs::set_permissions(&private, PermissionsExt::from_mode(0o640)).map(|()| PrivateKey::read(&private));
    let same = std::fs::read(&public).unwrap() == derived.stdout;
    let id = PublicKey::read(&public).unwrap().id;
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(out.status.success(), "{out:?}");
    assert!(same, "openssl derives the same public key from the private one");
    assert_eq!(id, "k");
    assert!(matches!(mode_open.unwrap(), Err(KeyError::Permissions { mode: 0o640, .. })));
}

#[test]
fn a_pin_names_one_release_by_name_or_digest() {
    let bytes = signed_by(&[1]);
    let verified = check(&bytes, &trusted(&[1]), 1).unwrap();
    let pinned = |text: &str| decide_pin(&verified, &text.parse::<Pin>().unwrap());
    for good in ["test/minimal".to_owned(), Digest::blake3(&bytes).to_string(), Digest::sha256(&bytes).to_string(), digest('0').to_string()] {
        assert_eq!(pinned(&good), Ok(()), "{good}");
    }
    for bad in ["test/minima".to_owned(), String::new(), Digest::blake3(b"").to_string(), digest('f').to_string()] {
        assert_eq!(pinned(&bad), Err(Reason::NotPinned), "{bad}");
    }
    assert!("blake3:12".parse::<Pin>().is_err() && "sha256:ABC".parse::<Pin>().is_err(), "a mistyped digest is no name");
}

#[test]
fn a_memory_is_of_one_manifest_and_says_who_signed_not_whom_to_believe() {
    let bytes = signed_by(&[1, 2]);
    let verified = check(&bytes, &trusted(&[1, 2]), 2).unwrap();
    let kept = memory::remember(&verified, RUNNING);
    let none = Revocations::default();
    let recall = |keys: &TrustedKeys, threshold, revoked: &Revocations| memory::recall(&kept, Digest::blake3(&bytes), keys, threshold, revoked, RUNNING);
    let same = recall(&trusted(&[1, 2]), 2, &none).unwrap();
    let mut acted_upon = verified.manifest().clone();
    acted_upon.binaries.values_mut().for_each(|b| (b.coverage, b.syscalls) = (None, None));
    assert_eq!((same.manifest(), same.digest(), same.sha256()), (&acted_upon, verified.digest(), verified.sha256()));
    assert_eq!((same.signers(), same.entry_digest(1), same.has_size(1)), (verified.signers(), verified.entry_digest(1), verified.has_size(1)));

    assert_eq!(recall(&trusted(&[2, 3]), 1, &none).unwrap().signers().iter().collect::<Vec<_>>(), ["key2"]);
    assert!(recall(&trusted(&[2, 3]), 2, &none).is_none() && recall(&trusted(&[3]), 0, &none).is_none() && recall(&TrustedKeys::default(), 0, &none).is_none());
    let twice = TrustedKeys::of([key(1).public("a"), key(1).public("b")]);
    assert!(recall(&twice, 1, &none).is_some() && recall(&twice, 2, &none).is_none());
    for name in ["key1".to_owned(), "a".to_owned(), key(1).public("").fingerprint()] {
        let revoked = Revocations { keys: [name].into(), ..Revocations::default() };
        assert!(recall(&TrustedKeys::of([key(1).public("a")]), 1, &revoked).is_none());
    }
    let revoked = Revocations { files: [verified.manifest().megabinary_digest].into(), ..Revocations::default() };
    assert!(recall(&trusted(&[1]), 1, &revoked).is_none());
    assert!(memory::recall(&kept, Digest::blake3(&bytes), &trusted(&[1]), 1, &none, "0.0.1").is_none(), "another version made it");

    // A signature that nobody here could check when the memory was made is not in it.
    let kept = memory::remember(&check(&bytes, &trusted(&[1]), 1).unwrap(), RUNNING);
    assert!(memory::recall(&kept, Digest::blake3(&bytes), &trusted(&[2]), 1, &none, RUNNING).is_none());
}

#[test]
fn a_memory_of_other_bytes_or_damaged_is_none() {
    let bytes = signed_by(&[1]);
    let kept = memory::remember(&check(&bytes, &trusted(&[1]), 1).unwrap(), RUNNING);
    let recall = |kept: &[u8], digest| memory::recall(kept, digest, &trusted(&[1]), 1, &Revocations::default(), RUNNING);
    let digest = Digest::blake3(&bytes);
    assert!(recall(&kept, digest).is_some());
    assert!(recall(&kept, Digest::blake3(&signed_by(&[1, 2]))).is_none());
    for length in (0..kept.len()).step_by(97) {
        assert!(recall(&kept[..length], digest).is_none());
    }
    let other = String::from_utf8(kept).unwrap().replacen("\"by\":\"0.1.0\"", "\"by\":\"0.0.9\"", 1);
    assert!(recall(other.as_bytes(), digest).is_none());
}
