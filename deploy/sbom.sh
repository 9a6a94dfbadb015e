#!/usr/bin/env bash
# Prints a CycloneDX 1.5 list of what the binary is made of. cargo-cyclonedx makes a fuller one where
# it is installed: cargo cyclonedx --format json. This needs cargo and jq.
#
#   deploy/sbom.sh [TARGET] > aictl.cdx.json
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
# Without what only tests and build scripts need: cargo tree knows.
shipped=$(cargo tree --locked --edges normal --target "$target" --prefix none --format '{p}' |
	sed 's/^\([^ ]*\) v\([^ ]*\).*/\1 \2/' | sort -u | jq -Rn '[inputs]')
cargo metadata --locked --format-version 1 --filter-platform "$target" | jq --argjson shipped "$shipped" '
	([.packages[] | {key: .id, value: .}] | from_entries) as $all
	| $all[.resolve.root] as $root
	| def purl: "pkg:cargo/\(.name)@\(.version)";
	{
		bomFormat: "CycloneDX",
		specVersion: "1.5",
		version: 1,
		metadata: {component: {type: "application", name: $root.name, version: $root.version,
			"bom-ref": ($root | purl), licenses: [{expression: $root.license}]}},
		components: [.packages[]
			| select(.id != $root.id and ("\(.name) \(.version)" | IN($shipped[])))
			| {type: "library", name, version, "bom-ref": purl, purl: purl, description}
				+ (if .license then {licenses: [{expression: (.license | gsub(" */ *"; " OR "))}]} else {} end)],
		dependencies: [.resolve.nodes[]
			| select("\($all[.id].name) \($all[.id].version)" | IN($shipped[]))
			| {ref: ($all[.id] | purl), dependsOn: [.dependencies[] | $all[.]
				| select("\(.name) \(.version)" | IN($shipped[])) | purl]}]
	}'
