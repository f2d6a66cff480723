"""SBOMs by the libraries of their own projects: `sbom.py cyclonedx|spdx FILE`; prints one line per problem, and fails if there is one."""

import sys

kind, path = sys.argv[1:]
if kind == "cyclonedx":
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(path).read())
    problems = [problem] if problem else []
else:
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    problems = [m.validation_message for m in validate_full_spdx_document(parse_file(path), "SPDX-2.3")]
for problem in problems:
    print(problem)
sys.exit(bool(problems))
