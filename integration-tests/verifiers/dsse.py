"""The DSSE envelope of a Sigstore bundle by securesystemslib: `dsse.py BUNDLE PUBLIC_KEY KEY_ID`; prints the names of the subjects."""

import json
import sys

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

bundle, public, key_id = sys.argv[1:]
envelope = Envelope.from_dict(json.load(open(bundle))["dsseEnvelope"])
key = SSlibKey.from_crypto(load_pem_public_key(open(public, "rb").read()), keyid=key_id)
envelope.verify([key], 1)
for subject in json.loads(envelope.payload)["subject"]:
    print(subject["name"])
