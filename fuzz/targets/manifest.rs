//! Any bytes as a manifest: strict canonical JSON, types, rules and signatures refuse it, or it has exactly one spelling; a key file or a revocation list, never a panic.
#![no_main]

use policy::document::Document;
use policy::{Revocations, TrustedKeys, canonical, verify};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (tree, document) = (canonical::parse_canonical(bytes), Document::read(bytes));
    assert_eq!(tree.is_ok(), document.is_ok(), "two readers, one form");
    if let (Ok(value), Ok(document)) = (tree, document) {
        assert_eq!(document.without("signatures", b"p"), canonical::without(&value, "signatures", b"p"));
        assert_eq!(document.member("signatures").map(<[u8]>::to_vec), value.as_object().and_then(|m| m.get("signatures")).map(canonical::to_bytes));
        assert_eq!(canonical::to_bytes(&value), bytes, "a canonical document has one spelling");
        if let Ok(manifest) = verify::typed(value) {
            let _ = policy::rules::check(&manifest);
            let _ = manifest.entry_order();
        }
    }
    if let Ok(value) = canonical::parse(bytes) {
        let again = canonical::to_bytes(&value);
        assert_eq!(canonical::parse_canonical(&again).expect("what was written can be read"), value);
    }
    // Without keys nothing verifies.
    let refused = verify::verify(bytes, &TrustedKeys::default(), 1, &Revocations::default(), "0.1.0");
    assert!(refused.is_err());
});
