#!/bin/sh
# repository.sh DIR: makes the application's git repository. `app/` becomes its first commit, `base`, and each file of
# `changes/` a commit on top of it, on a branch of that name. Authors, dates and contents are fixed, and so are the
# commits' ids. A repository that is there is left as it is, and it appears whole or not at all: the script may be killed
# and repeated at any point.
set -eu

[ $# -eq 1 ] || { echo 'usage: repository.sh DIR' >&2; exit 2; }
target=$1
source=$(cd "$(dirname "$0")" && pwd)

# Nothing of the user's own git, such as signatures, hooks or line ends, belongs into this one.
# shellcheck disable=SC2046 # a list of names
unset $(git rev-parse --local-env-vars)
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME='Shop' GIT_AUTHOR_EMAIL='team@shop.example' GIT_AUTHOR_DATE='2026-01-05T09:00:00Z'
export GIT_COMMITTER_NAME='Shop' GIT_COMMITTER_EMAIL='team@shop.example' GIT_COMMITTER_DATE='2026-01-05T09:00:00Z'

if [ ! -d "$target" ]; then
    # One that may not be read would be taken for an empty one.
    ls "$source/app" "$source/changes" > /dev/null
    unfinished=$target.$$
    trap 'rm -rf "$unfinished"' EXIT
    rm -rf "$unfinished"
    mkdir -p "$unfinished"
    (
        git init --quiet --object-format=sha1 "$unfinished"
        cd "$unfinished"
        git symbolic-ref HEAD refs/heads/base
        git --work-tree="$source/app" add --all
        git --work-tree="$source/app" commit --quiet --message 'A price service'
        git reset --quiet --hard
        for change in "$source"/changes/*.patch; do
            name=$(basename "$change" .patch)
            git checkout --quiet -b "$name" base
            git am --quiet "$change"
        done
        git checkout --quiet base
    ) >&2
    # Whoever was faster has made the same.
    [ -d "$target" ] || mv "$unfinished" "$target"
fi

git -C "$target" for-each-ref --format='%(objectname) %(refname:short)' refs/heads/
