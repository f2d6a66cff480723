// A bundle by @sigstore/verify: `bundle.js BUNDLE PUBLIC_KEY KEY_ID`. There is no transparency log: nothing is asked of one.
const fs = require('node:fs');
const { createPublicKey } = require('node:crypto');
const { bundleFromJSON } = require('@sigstore/bundle');
const { TrustedRoot } = require('@sigstore/protobuf-specs');
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');

const [bundle, file, keyId] = process.argv.slice(2);
const root = { mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1', tlogs: [], certificateAuthorities: [], ctlogs: [], timestampAuthorities: [] };
const publicKey = createPublicKey(fs.readFileSync(file));
const keys = (hint) => {
  if (hint !== keyId) throw new Error(`hint ${hint} is not ${keyId}`);
  return { publicKey, validFor: () => true };
};
const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(root), keys), { tlogThreshold: 0, ctlogThreshold: 0, tsaThreshold: 0 });
verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(fs.readFileSync(bundle)))));
console.log('verified');
