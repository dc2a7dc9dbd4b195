#!/usr/bin/env bash
# Count TARGET at the commit BASE and at the one that is checked out; write the difference in Markdown to
# $RUNNER_TEMP/opcount/diff.md and to the job's summary. ARGUMENTS go to `opcount count`, FAIL to `opcount diff --fail`.
set -euo pipefail

folder="${RUNNER_TEMP:?}/opcount"
mkdir -p "$folder"
if [ -z "${BASE:-}" ]; then
    echo "::error::flops-diff: expected a commit to compare with, got none. Pass base, or run it on pull_request."
    exit 2
fi
git cat-file -e "$BASE^{commit}" 2> /dev/null || git fetch --quiet --depth=1 origin "$BASE"
git worktree add --quiet --force --detach "$folder/base" "$BASE"
trap 'git worktree remove --force "$folder/base"' EXIT

read -r -a arguments <<< "${ARGUMENTS:-}"
opcount count "${TARGET:?}" "${arguments[@]}" -o "$folder/after.json"
if ! (cd "$folder/base" && opcount count "$TARGET" "${arguments[@]}" -o "$folder/before.json" 2> "$folder/errors"); then
    cat "$folder/errors" >&2
    {
        echo "### $TARGET: FLOPs of this change"
        echo
        echo "It cannot be counted at the base, so there is nothing to compare with. Now:"
        echo
        opcount show "$folder/after.json" --format markdown
    } > "$folder/diff.md"
    cat "$folder/diff.md" >> "${GITHUB_STEP_SUMMARY:-/dev/stdout}"
    exit 0
fi

fail=()
if [ -n "${FAIL:-}" ]; then fail=(--fail "$FAIL"); fi
status=0
opcount diff "$folder/before.json" "$folder/after.json" --format markdown -o "$folder/table.md" "${fail[@]}" \
    2> "$folder/errors" || status=$?
cat "$folder/errors" >&2
if [ "$status" -gt 1 ]; then exit "$status"; fi
{
    echo "### $TARGET: FLOPs of this change"
    echo
    if [ -s "$folder/errors" ]; then sed 's/^opcount: \(.*\)$/**\1**  /' "$folder/errors" && echo; fi
    cat "$folder/table.md"
} > "$folder/diff.md"
cat "$folder/diff.md" >> "${GITHUB_STEP_SUMMARY:-/dev/stdout}"
if [ "$status" = 1 ]; then echo "::error::$TARGET: $(sed 's/^opcount: //; s/%/%25/g' "$folder/errors" | tail -n 1)"; fi
exit "$status"
