#!/bin/sh
# Put a Chromium without a window into FOLDER/bin/chromium: scripts/chromium.sh FOLDER
# It comes from Debian's packages, with the libraries that this machine lacks and with fonts. They are unpacked into
# FOLDER/chromium and not installed, so nothing outside FOLDER changes.
set -eu
tools=$1
download=$tools/download/chromium
root=$tools/chromium

echo "fetching Chromium into $tools"
rm -rf "$download" "$root"
mkdir -p "$download/partial" "$tools/bin"

download_packages() { # the browser with what the machine lacks of its dependencies, and the fonts in any case
  apt-get install -qq -y --download-only --no-install-recommends \
    -o Debug::NoLocking=1 -o Dir::Cache::archives="$PWD" chromium-headless-shell &&
    apt-get download -qq fonts-inter fonts-dejavu-core
}
(
  cd "$download"
  download_packages 2>/dev/null || {
    apt-get update -qq # a fresh machine has no package lists; updating them needs root
    download_packages
  }
)
for package in "$download"/*.deb; do
  dpkg-deb --extract "$package" "$root"
done
rm -rf "$download"

# The same fonts on every machine, so that pictures of the page are alike.
cat >"$root/fonts.conf" <<'XML'
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias binding="same"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
  <alias binding="same"><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
  <alias binding="same"><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias binding="same"><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
XML

cat >"$tools/bin/chromium" <<'SH'
#!/bin/sh
# Chromium with the libraries and fonts beside it.
root=$(cd "$(dirname "$(readlink -f "$0")")/../chromium" && pwd)
libraries=$root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH="$libraries:$libraries/pulseaudio:$libraries/nss:$root/lib/x86_64-linux-gnu"
export FONTCONFIG_FILE="$root/fonts.conf" XDG_CACHE_HOME="$root/cache"
exec "$root/usr/lib/chromium/chromium-headless-shell" "$@"
SH
chmod +x "$tools/bin/chromium"
