#!/bin/sh
# isa_symbols.sh NM ISA OBJECT...: everything that these objects, compiled for ISA, define for others
# must stand in the namespace aircache::cpu::ISA. Anything else is an inline function of which the
# linker may keep this copy for all (see CMakeLists.txt).
set -eu
nm=$1 isa=$2
shift 2

symbols=$("$nm" -C --extern-only --defined-only "$@" | sed -nE 's/^[0-9a-f]+ [[:alpha:]] //p')
test -n "$symbols" || { echo "no symbols in $*"; exit 1; }
if strangers=$(echo "$symbols" | grep -vF "aircache::cpu::$isa::"); then
  echo "compiled for $isa, outside aircache::cpu::$isa:"
  echo "$strangers"
  exit 1
fi
