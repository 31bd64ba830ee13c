#!/usr/bin/env bash
# Set up, build, test and run weir. `./do help` lists the commands.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What must be there, as "how to see that it is|the package that brings it".
needed=(
    'command -v gcc|gcc'
    'test -e /usr/include/stdlib.h|libc6-dev'
    'command -v meson|meson'
    'command -v ninja|ninja-build'
    'command -v pkg-config|pkg-config'
    'pkg-config --exists cmocka|libcmocka-dev'
    'pkg-config --exists libseccomp|libseccomp-dev'
    'test -x /usr/bin/python3|python3'
    'command -v ip|iproute2'
    'command -v patch|patch'
    'test -e /usr/include/crypt.h|libcrypt-dev'
    'command -v curl|curl'
    'command -v lftp|lftp'
    'command -v ncftpget|ncftp'
    'command -v tnftp|tnftp'
    'command -v wget|wget'
    'command -v h2load|nghttp2-client'
    'command -v wrk|wrk'
    'command -v node|nodejs'
    'test -e /usr/share/nodejs/undici || test -e /usr/lib/node_modules/undici|node-undici'
    '/usr/bin/python3 -c "import h11"|python3-h11'
)

# The clients that only `./do clients` needs, in the same form.
needed_clients=(
    'command -v rclone|rclone'
    'command -v npm|npm'
    'command -v chromium || command -v chromium-browser|chromium'
)

# Packages whose distribution's version may be too old: either the distribution's own are installed,
# or, where one of newer_min is older or missing, these of a newer suite are unpacked into .deps.
newer_packages=(liburing-dev liburing2 libllhttp-dev linux-libc-dev)
# pkg-config's name|package|version
newer_min=('liburing|liburing-dev|2.9' 'libllhttp|libllhttp-dev|9')

# Suites to take them from, first match wins; the codenames are tried on the machine's own mirror.
newer_suites_debian=(trixie forky)
newer_suites_ubuntu=(resolute questing plucky)
newer_components=main
newer_components_ubuntu='main universe'

deps=.deps
python=/usr/bin/python3

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'do: %s\n' "$*" >&2; exit 1; }

# --- set-up ---------------------------------------------------------------------------------------

# missing_packages ROW...: the packages of rows as above whose program is not there.
missing_packages() {
    local row
    for row in "$@"; do
        eval "${row%|*}" >/dev/null 2>&1 || echo "${row##*|}"
    done
}

# Runs a command as root, or tells what to run.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo. As root, run:  $*"
    fi
}

install_packages() {
    command -v apt-get >/dev/null ||
        die "missing: $*. This is not Debian or Ubuntu: install what corresponds to these packages."
    say "installing with apt: $*"
    local apt=(apt-get -o DPkg::Lock::Timeout=300)
    # Here, since the first try below tells nothing.
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        die "this needs root, and there is no sudo. As root, run:  apt-get install -y $*"
    # A list of packages may be missing or old: the second try is after an update.
    as_root env DEBIAN_FRONTEND=noninteractive \
        "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null 2>&1 && return
    as_root "${apt[@]}" update ||
        die "apt-get update failed: is the network there? Then run ./do setup again."
    as_root env DEBIAN_FRONTEND=noninteractive \
        "${apt[@]}" install -y --no-install-recommends "$@" ||
        die "apt-get could not install: $*. Its message is above."
}

# install_missing ROW...: installs what is not there, and nothing else.
install_missing() {
    local missing
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    install_packages $missing
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] || die "still missing after the installation: $missing"
}

# What the compiler would find by itself, without .deps.
system_is_new() {
    local row name package version
    for row in "${newer_min[@]}"; do
        IFS='|' read -r name package version <<<"$row"
        pkg-config --atleast-version="$version" "$name" 2>/dev/null || return 1
    done
}

# candidates_are_new [APT OPTION...]: whether apt would install packages that are new enough.
candidates_are_new() {
    local row name package version candidate
    for row in "${newer_min[@]}"; do
        IFS='|' read -r name package version <<<"$row"
        candidate=$(LC_ALL=C apt-cache "$@" policy "$package" 2>/dev/null |
            sed -n 's/^  Candidate: \([0-9].*\)/\1/p') # "(none)" would be the newest of all
        dpkg --compare-versions "${candidate:-0}" ge "$version" || return 1
    done
}

# .deps is renamed into place when whole, and this stamp names what it was made from.
deps_stamp() { echo "3 ${newer_packages[*]}"; }
deps_are_whole() { [ "$(cat "$deps/stamp" 2>/dev/null)" = "$(deps_stamp)" ]; }

# Prints the machine's apt sources that carry one of the suites "$1", one per paragraph, with suite
# $2 in its place. What else an entry says (keyring, options) stays, so trust is the machine's own.
sources_for_suite() {
    local old=$1 new=$2 list='' parts='' file
    eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
    for file in "$list" "$parts"*.list; do
        [ -e "$file" ] && sources_of_one_line_list "$old" "$new" "$file"
    done
    for file in "$parts"*.sources; do
        [ -e "$file" ] && sources_of_deb822_file "$old" "$new" "$file"
    done
    return 0
}

sources_of_one_line_list() {
    awk -v old="$1" -v new="$2" -v components="$newer_components" '
        $1 == "deb" {
            at = ($2 ~ /^\[/) ? 3 : 2
            while (at > 2 && at <= NF && $(at - 1) !~ /\]$/) at++
            if (!index(" " old " ", " " $(at + 1) " ")) next
            line = ""
            for (i = 2; i <= at; i++) line = line " " $i
            print "deb" line " " new " " components "\n"
        }' "$3"
}

sources_of_deb822_file() {
    awk -v RS= -v old="$1" -v new="$2" -v components="$newer_components" '
        {
            found = binary = 0; enabled = 1; text = ""
            count = split($0, lines, "\n")
            for (i = 1; i <= count; i++) {
                line = lines[i]
                key = tolower(line); sub(/:.*/, "", key)
                if (line ~ /^#/) continue
                if (key == "enabled" && tolower(line) ~ /: *no/) enabled = 0
                if (key == "types" && line ~ /[: ]deb( |$)/) { binary = 1; line = "Types: deb" }
                if (key == "suites") {
                    words = split(line, word, " ")
                    for (w = 2; w <= words; w++) if (index(" " old " ", " " word[w] " ")) found = 1
                    line = "Suites: " new
                }
                if (key == "components") line = "Components: " components
                text = text line "\n"
            }
            if (found && binary && enabled) print text
        }' "$3"
}

# An apt of our own under $1: it reads the machine's configuration (proxies, trust) and writes
# nothing outside. The hooks go because they would tidy the machine's own cache.
write_private_apt() {
    local root=$1
    mkdir -p "$root"/{state/lists/partial,cache/archives/partial,etc}
    : >"$root/status"
    cat >"$root/apt.conf" <<END
#clear APT::Update;
#clear APT::Architectures;
#clear DPkg::Post-Invoke;
APT::Architectures { "$(dpkg --print-architecture)"; };
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "$root/state";
Dir::State::lists "$root/state/lists";
Dir::State::status "$root/status";
Dir::Cache "$root/cache";
Dir::Cache::archives "$root/cache/archives";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
END
}

# Downloads newer_packages from one source entry (the paragraph $2) with the apt under $1.
download_from_source() {
    local root=$1 source=$2 origin=$3
    local list="$root/etc/source.list"
    case $source in
        'deb '*) ;;
        *) list="$root/etc/source.sources" ;;
    esac
    printf '%s\n' "$source" >"$list"
    local apt=(apt-get -c "$root/apt.conf" -o "Dir::Etc::sourcelist=$list" -q)
    rm -rf "$root/state/lists" && mkdir -p "$root/state/lists/partial"
    "${apt[@]}" update -o APT::Update::Error-Mode=any >"$root/log" 2>&1 || return 1
    # A third party may use the same codename: only the distribution itself is asked.
    # shellcheck disable=SC2016
    "${apt[@]}" indextargets --format '$(ORIGIN)' 2>/dev/null | grep -qix "$origin" || return 1
    candidates_are_new -c "$root/apt.conf" -o "Dir::Etc::sourcelist=$list" || return 1
    mkdir -p "$root/debs"
    (cd "$root/debs" && "${apt[@]}" download "${newer_packages[@]}") >>"$root/log" 2>&1
}

# Writes pkg-config files for what was unpacked under $1: relocatable, and with the unpacked kernel
# headers before the system's. -isystem, because warnings in them are not ours.
write_pkgconfig() {
    local root=$1 triplet headers file
    triplet=$(gcc -print-multiarch)
    # shellcheck disable=SC2016
    headers='-isystem ${prefix}/include'
    # The asm headers: Debian 13's lie apart, one folder per kernel architecture.
    for file in include/"$triplet" lib/linux/uapi/"$(kernel_architecture)"; do
        [ -d "$root/usr/$file/asm" ] && headers+=" -isystem \${prefix}/$file"
    done
    mkdir -p "$root/pkgconfig"
    for file in "$root"/usr/lib/"$triplet"/pkgconfig/*.pc "$root"/usr/share/pkgconfig/*.pc; do
        [ -e "$file" ] || continue
        # shellcheck disable=SC2016
        sed -E -e 's|^prefix *=.*|prefix=${pcfiledir}/../usr|' \
            -e 's|^([a-z_]+) *= */usr|\1=${prefix}|' \
            -e 's|-I *|-isystem |g' \
            -e "s|^Cflags:|& $headers|" \
            "$file" >"$root/pkgconfig/$(basename "$file")"
    done
    for file in "${newer_min[@]}"; do
        [ -e "$root/pkgconfig/${file%%|*}.pc" ] || die "the packages brought no ${file%%|*}.pc"
    done
}

kernel_architecture() {
    case $(dpkg --print-architecture) in
        amd64 | i386 | x32) echo x86 ;;
        arm64) echo arm64 ;;
        armhf | armel) echo arm ;;
        ppc64el) echo powerpc ;;
        riscv64) echo riscv ;;
        s390x) echo s390 ;;
        loong64) echo loongarch ;;
        *) echo none ;;
    esac
}

fetch_deps() (
    # shellcheck disable=SC1091
    . /etc/os-release
    case $ID in
        debian) suites=("${newer_suites_debian[@]}") ;;
        ubuntu)
            suites=("${newer_suites_ubuntu[@]}")
            newer_components=$newer_components_ubuntu
            ;;
        *) die "missing: liburing 2.9 and llhttp 9 or newer, with kernel headers of their age" ;;
    esac
    exec 9>"$deps.lock"
    flock 9
    deps_are_whole && return 0
    work=$(mktemp -d "$PWD/$deps.new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    write_private_apt "$work/apt"
    for suite in "${suites[@]}"; do
        say "liburing or llhttp is too old here: looking in $suite on this machine's mirror"
        while IFS= read -r -d '' source; do
            [ -n "${source//[[:space:]]/}" ] || continue
            download_from_source "$work/apt" "$source" "$ID" && break 2
        done < <(sources_for_suite "${VERSION_CODENAME-} stable oldstable" "$suite" |
            awk -v RS= '{ printf "%s%c", $0, 0 }')
        suite=''
    done
    [ -n "$suite" ] || {
        [ -e "$work/apt/log" ] && tail -n 5 "$work/apt/log" >&2
        die "no mirror in apt's configuration has new enough packages in ${suites[*]}:" \
            "is the network there?"
    }
    say "unpacking ${newer_packages[*]} of $suite into $deps"
    mkdir "$work/tree"
    for file in "$work"/apt/debs/*.deb; do
        dpkg-deb -x "$file" "$work/tree"
        basename "$file" >>"$work/tree/packages"
    done
    write_pkgconfig "$work/tree"
    deps_stamp >"$work/tree/stamp"
    if [ -e "$deps" ]; then mv "$deps" "$work/old"; fi
    mv -T "$work/tree" "$deps"
)

cmd_setup() {
    install_missing "${needed[@]}"
    if system_is_new || deps_are_whole; then
        return
    elif candidates_are_new; then
        install_packages "${newer_packages[@]}"
    else
        fetch_deps
    fi
}

# --- build and run --------------------------------------------------------------------------------

# NAME COMPILER WERROR [MESON OPTION...]: makes build/NAME what these say.
configure_into() {
    local folder=build/$1 compiler=$2 werror=$3
    shift 3
    if [ -e "$deps/pkgconfig" ]; then
        export PKG_CONFIG_PATH="$PWD/$deps/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
    fi
    if [ ! -e "$folder/build.ninja" ]; then
        say "configuring $folder"
        rm -rf "$folder"
        CC=$compiler meson setup "$folder" -Dwerror="$werror" "$@" >"$folder.log" 2>&1 || {
            cat "$folder.log" >&2
            rm -rf "$folder"
            die "meson could not configure $folder: the reason is above"
        }
    elif [ "$werror" = true ] &&
        ! grep -q '^werror = true' "$folder/meson-private/cmd_line.txt"; then
        meson configure "$folder" -Dwerror=true
    fi
}

# ninja_into NAME [TARGET...]: all, or these alone.
ninja_into() {
    local folder=build/$1
    shift
    say "building $folder"
    ninja -C "$folder" --quiet "$@" || die "the build in $folder failed, see above"
}

# NAME COMPILER WERROR [MESON OPTION...]: configures and builds all.
build_into() {
    configure_into "$@"
    ninja_into "$1"
}

# build_variant VARIANT WERROR: the variants that the tests use, and the targets of libFuzzer.
build_variant() {
    # More optimization finds no more, and takes half as long again to build. Reports need lines.
    local sanitizer=(-Ddebug=false -Dc_args=-g1 -Doptimization=1 -Db_lundef=false)
    local memory=-Db_sanitize=address,undefined
    # Each of these has tables of its own, which the search for leaks reads at a process's end. Two
    # shared ones were most of its time where a page's first touch is dear; static, they have one.
    local static='-Dc_link_args=-static-libasan -static-libubsan'
    mkdir -p build
    case $1 in
        release) build_into "$1" gcc "$2" -Dbuildtype=release ;;
        asan) build_into "$1" gcc "$2" "${sanitizer[@]}" "$memory" "$static" ;;
        tsan) build_into "$1" gcc "$2" "${sanitizer[@]}" -Db_sanitize=thread ;;
        clang) build_into "$1" clang "$2" -Dbuildtype=plain ;; # for its warnings
        fuzz)
            configure_into "$1" clang "$2" "${sanitizer[@]}" "$memory" -Dfuzz=true
            ninja_into "$1" fuzz_targets
            ;;
        *) die "no such variant: $1 (release, asan, tsan, clang or fuzz)" ;;
    esac
}

cmd_build() {
    cmd_setup
    build_variant "${1:-release}" false
}

# meson_test VARIANT [ARG...]: what failed is read from its log afterwards.
meson_test() {
    local fixed_addresses=() variant=$1
    shift
    # ThreadSanitizer cannot map its shadow where the kernel randomizes addresses widely.
    if setarch -R true 2>/dev/null; then fixed_addresses=(setarch -R); fi
    "${fixed_addresses[@]}" meson test -C "build/$variant" --no-rebuild --print-errorlogs \
        "$@" || true
}

# Runs the tests of a build. Those that fail while a processor stands still are run again, alone.
test_variant() {
    local round stalled
    say "testing build/$1"
    meson_test "$1" --num-processes $((3 * $(nproc))) # tests mostly wait
    for round in 1 2; do
        mapfile -t stalled < <("$python" tests/stalls.py failed build/stalls.log "build/$1")
        [ ${#stalled[@]} != 0 ] || return 0
        say "a processor stood still: again ${stalled[*]}"
        meson_test "$1" --num-processes 1 --logbase "again$round" "${stalled[@]}"
    done
}

# Runs a function beside tests, which wait a lot and have the first call on the processors. Its
# process group ends with this process.
beside() {
    set -m
    gently "$@" &
    beside=$!
    set +m
    trap 'kill -- "-$beside" 2>/dev/null || true' EXIT
}

gently() {
    renice -n 10 -p "$BASHPID" >/dev/null
    "$@"
}

# Waits for it; its status.
end_beside() {
    local status=0
    wait "$beside" || status=$?
    trap - EXIT
    return "$status"
}

build_variants() {
    local variant
    for variant in "$@"; do
        build_variant "$variant" true
    done
}

end_build_beside() {
    end_beside || die "what was built beside the tests failed, see above"
}

cmd_test() {
    local variant variants=(release asan tsan) clang=() folders=() fuzzed=0
    cmd_setup
    if command -v clang >/dev/null; then
        clang=(clang fuzz)
    else
        say "no clang here: not built with it; the corpora are replayed, nothing is fuzzed"
    fi
    for variant in "${variants[@]}"; do
        folders+=("build/$variant")
        rm -f "build/$variant"/meson-logs/{testlog,again?}.*
    done
    build_variant release true
    "$python" tests/stalls.py watch build/stalls.log &
    beside build_variants asan tsan
    test_variant release
    end_build_beside
    beside build_variants "${clang[@]}"
    test_variant asan
    end_build_beside
    [ ${#clang[@]} = 0 ] || beside fuzz_for_tests
    test_variant tsan
    [ ${#clang[@]} = 0 ] || end_beside || fuzzed=1
    "$python" tests/summary.py "${folders[@]}" || exit 1
    [ "$fuzzed" = 0 ] || die "fuzzing failed: $(fuzz_finds)"
}

# Runs what exercises core/ and servers/ in a build that counts statements, and fails below 90 %.
cmd_coverage() {
    local folder=build/coverage passed=0
    cmd_setup
    command -v gcovr >/dev/null || install_packages gcovr
    build_into coverage gcc false -Dbuildtype=debug -Db_coverage=true
    find "$folder" -name '*.gcda' -delete
    rm -f "$folder"/meson-logs/{testlog,again?}.*
    say "testing $folder"
    meson test -C "$folder" --no-rebuild --print-errorlogs --num-processes $((2 * $(nproc))) \
        --timeout-multiplier 3 --suite unit --suite contract --suite sim --suite faults \
        --suite fuzz --suite e2e --suite sandbox || true
    # Servers in a sandbox are written down by others, who may still be at it (witness.c).
    flock --timeout 60 "$folder/witness.lock" true
    "$python" tests/summary.py "$folder" || passed=1
    "$python" tests/coverage/report.py "$folder" || passed=1
    return $passed
}

# run PROGRAM ARGUMENT...: builds the release and becomes one of its programs. Standard output is
# the program's alone: `./do load echo --json - ...` may be read by another one.
run() {
    local program=build/release/$1
    shift
    cmd_build release >&2
    [ -x "$program" ] || die "$program was not built"
    exec "$program" "$@"
}

# The servers of bench/peers. Their packages would start them at once: policy-rc.d forbids it,
# unless the machine has such a policy of its own.
install_peers() {
    local policy=/usr/sbin/policy-rc.d ours=''
    [ -e "$policy" ] || ours=1
    [ -z "$ours" ] || printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    [ -z "$ours" ] || as_root chmod 755 "$policy"
    install_packages nginx-light h2o lighttpd haproxy vsftpd
    [ -z "$ours" ] || as_root rm -f "$policy"
}

cmd_bench() {
    cmd_build release >&2
    if [ "${1-}" = --peers ]; then
        shift
        install_peers
        local scenario=http
        case ${1-} in http | ftp) scenario=$1 && shift ;; esac
        exec "$python" bench/suite/weir-bench run "$scenario" --build build/release "$@"
    fi
    exec "$python" bench/suite/weir-bench quick --build build/release "$@"
}

# Real clients: FTP's at full size (trees of 2,000 files, a directory of 100,000 entries), HTTP's,
# and a browser, which reads the report of weir-bench as well. All are installed here, by apt or by
# npm into .deps, so none may be skipped.
cmd_clients() {
    local file failed=0
    cmd_build release
    install_missing "${needed_clients[@]}"
    [ -e "$deps/npm/node_modules/basic-ftp" ] ||
        npm install --loglevel error --no-audit --no-fund --prefix "$deps/npm" basic-ftp >&2 ||
        die "npm could not install basic-ftp: its message is above"
    export WEIR=$PWD/build/release/servers/weir
    export WEIR_FULL=1 WEIR_BROWSER=1 TAP_NO_SKIPS=1
    for file in e2e/ftp_real_clients e2e/ftp_listings e2e/http_clients e2e/http_browser \
        suite/browser_test; do
        say "testing $file"
        "$python" tests/tap.py "tests/$file.py" || failed=1
    done
    return $failed
}

# Plays seeds of the simulator that nobody has played before.
cmd_soak() {
    local seconds=${1:-60}
    cmd_build release
    exec build/release/tests/sim/weir-sim --protocol "${2:-echo}" --seconds "$seconds" \
        --seed "$(date +%s)000000"
}

# The hostile scenes of the tests in full size, on real sockets: about half an hour, the soak last.
# `./do hostile --scene slow_clients --engine uring` plays one.
cmd_hostile() {
    cmd_build release >&2
    mkdir -p build/hostile
    WEIR=build/release/servers/weir WEIR_LOAD=build/release/bench/load/weir-load \
        HOSTILE_PEERS=build/release/tests/hostile/hostile-peers \
        exec "$python" tests/hostile/measure.py --json build/hostile/results.json "$@"
}

# fuzz "TARGET..."|all [SECONDS]: libFuzzer with clang's sanitizers. What fails is kept among the
# regressions, which the tests replay; what is new stays in build/fuzz.
cmd_fuzz() {
    local targets seconds=${2:-20}
    read -ra targets <<<"${1:-all}"
    command -v clang >/dev/null || die "missing: clang (as root: apt-get install clang)"
    cmd_setup
    build_variant fuzz false
    if [ "${targets[0]}" = all ]; then
        mapfile -t targets < <(ls tests/fuzz/corpus)
    fi
    printf "%s $seconds\\n" "${targets[@]}" | fuzz_all
}

# Reads lines of "TARGET SECONDS [SEED]"; one for each CPU at a time.
fuzz_all() {
    xargs -P "$(nproc)" -L 1 bash "$PWD/do" fuzz-one
}

fuzz_for_tests() {
    local target
    # The same inputs each time, as far as libFuzzer can: a run of the tests judges the sources, and
    # what nobody has met yet is for `./do fuzz`.
    for target in tests/fuzz/corpus/*; do
        printf '%s 20 1\n' "${target##*/}"
    done | fuzz_all
}

# What failed, an input each, with its bytes: where the tests ran may be gone when this is read.
fuzz_finds() {
    grep -E '^(artifact_prefix|Base64)' build/fuzz/*.log || echo 'see above'
}

# A part of fuzz, which has built it.
cmd_fuzz_one() {
    local target=$1 seconds=$2 seed=${3:-0} program=build/fuzz/tests/fuzz/fuzz_$1
    [ -x "$program" ] || die "no such fuzz target: $target"
    say "fuzzing $target for $seconds s"
    mkdir -p "build/fuzz/corpus/$target"
    "$program" -max_total_time="$seconds" -max_len=4096 -timeout=600 -print_final_stats=1 \
        -seed="$seed" \
        -artifact_prefix="tests/fuzz/regressions/$target/" \
        "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target" \
        >"build/fuzz/$target.log" 2>&1 || {
        grep -v '^#' "build/fuzz/$target.log" | tail -n 40 >&2
        die "$target failed: its input is in tests/fuzz/regressions/$target"
    }
    grep -E '^(stat::number_of_executed_units|stat::new_units_added)' "build/fuzz/$target.log" >&2
}

# Google Benchmark is no need of anything else, so only this command asks for it.
cmd_micro() {
    pkg-config --exists benchmark || install_packages libbenchmark-dev
    command -v c++ >/dev/null || install_packages g++
    # A folder that was configured without them does not look again by itself.
    if [ -e build/release/build.ninja ] && [ ! -x build/release/bench/micro/weir-micro ]; then
        meson setup --reconfigure build/release >/dev/null
    fi
    run bench/micro/weir-micro "$@"
}

cmd_format() {
    local clang_format
    clang_format=$(command -v clang-format-14 || command -v clang-format) ||
        die "missing: clang-format 14 (as root: apt-get install clang-format-14)"
    find core servers bench tests \( -name '*.[ch]' -o -name '*.cc' \) -print0 |
        xargs -0r "$clang_format" -i "$@"
}

cmd_help() {
    cat <<'END'
usage: ./do COMMAND

  setup             install what is missing (apt; newer libraries into .deps where needed)
  build [VARIANT]   set up and build into build/VARIANT: release (default), asan, tsan, clang
  test              set up, build all variants, pass every test
  coverage          build with counters, run the tests, tell what they ran of core/ and servers/
  bench [ARG...]    set up, build, compare the engines on this machine (weir-bench quick)
  micro [ARG...]    micro benchmarks under Google Benchmark (--benchmark_format=json ...)
  clients           real clients of FTP (at full size) and HTTP, a browser among them: installs
                    what is missing of them (rclone, chromium; npm, and basic-ftp by it)
  soak [SECONDS]    play new seeds of the simulator (default 60)
  hostile [ARG...]  hostile and overloaded on real sockets, in full size, with a table
  fuzz [TARGET [SECONDS]]
                    fuzz a target, or all (default), for so long each (default 20); needs clang
  bench --peers [http|ftp] [ARG...]
                    install nginx, h2o, lighttpd, haproxy and vsftpd, and compare weir http
                    (default) or weir ftp with them, in half an hour
  serve ARG...      build and run a server:  ./do serve echo --listen 127.0.0.1:7777
  load ARG...       build and run the load generator (weir-load)
  doctor [ARG...]   what this kernel can do for weir, and how to mend what it cannot
  format            rewrite the C files as .clang-format says (clang-format 14)
  help              this page
END
}

main() {
    local command=${1:-help}
    shift || true
    case $command in
        help | -h | --help) cmd_help ;;
        setup | build | test | coverage | bench | clients | micro | soak | hostile | fuzz | format)
            "cmd_$command" "$@"
            ;;
        fuzz-one) cmd_fuzz_one "$@" ;;
        serve) run servers/weir "$@" ;;
        load) run bench/load/weir-load "$@" ;;
        doctor) run servers/weir doctor "$@" ;;
        *) die "no such command: $command (./do help lists them)" ;;
    esac
}

# Sourced, this file only defines its functions.
[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
