#!/bin/sh
# checkout.sh REPOSITORY COMMIT DIR: puts a commit, given by its branch or its id, into a directory, and tells which one
# it is: {"commit":"…","author":"…","date":"…"}. The directory appears whole or not at all, and one that holds the commit
# is left as it is, with all that has been built in it: the script may be killed and repeated at any point.
set -eu

[ $# -eq 3 ] || { echo 'usage: checkout.sh REPOSITORY COMMIT DIR' >&2; exit 2; }
repository=$1
dir=$3

# A branch first: its name may look like an abbreviated id.
commit=$(git -C "$repository" rev-parse --verify --quiet "refs/heads/$2^{commit}" ||
    git -C "$repository" rev-parse --verify --quiet "$2^{commit}") || {
    echo "checkout: there is no commit '$2'. There are these branches:" >&2
    git -C "$repository" for-each-ref --format='  %(refname:short)  %(contents:subject)' refs/heads/ >&2
    exit 1
}

if [ ! -d "$dir" ]; then
    unfinished=$dir.$$
    trap 'rm -rf "$unfinished"' EXIT
    rm -rf "$unfinished"
    git clone --quiet --no-checkout "$repository" "$unfinished" >&2
    git -C "$unfinished" checkout --quiet --detach "$commit" >&2
    [ -d "$dir" ] || mv "$unfinished" "$dir"
fi

found=$(git -C "$dir" rev-parse HEAD)
[ "$found" = "$commit" ] || { echo "checkout: $dir holds $found and not $commit" >&2; exit 1; }
git -C "$dir" log -1 --format='{"commit":"%H","author":"%ae","date":"%aI"}'
