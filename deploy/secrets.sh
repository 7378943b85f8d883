#!/usr/bin/env bash
# Makes the secrets of docker-compose.yml, and has .env name their folder:
#
#   deploy/secrets.sh [FOLDER]      FOLDER: deploy/secrets by default
#
# Three keys for the server, of which it gets the hashes; the key of Prometheus; the password of Grafana's `admin`; and an
# empty file for a token of the Hugging Face hub. What is there already is kept. Run as whoever runs docker compose.
#
# The folder is closed to everybody else on this host, and its files are not: a container reads them as another user.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-deploy/secrets}
environment=${ENV_FILE:-.env}

new_key() { printf '%s%s' "$1" "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')"; }
hash_of() { printf '%s' "$1" | sha256sum | cut -d ' ' -f 1; }
# write NAME TEXT: complete when it appears.
write() {
    printf '%s' "$2" >"$folder/.$1"
    chmod 644 "$folder/.$1"
    mv "$folder/.$1" "$folder/$1"
    echo "wrote $folder/$1"
}

mkdir -p "$folder"
chmod 700 "$folder"
if [[ -e $folder/sonant.toml ]]; then
    echo "$folder/sonant.toml is there, and kept: deploy/README.md says how to exchange a key"
else
    client=$(new_key sonant_) admin=$(new_key sonant_) metrics=$(new_key sonant_)
    write metrics_key "$metrics"
    write sonant.toml "# Settings of the server: server/SETTINGS.md has them all. Of a key only its SHA-256 stands here.

[api_keys]
client = \"$(hash_of "$client")\"

[admin_keys]
admin = \"$(hash_of "$admin")\"

[metrics_keys]
prometheus = \"$(hash_of "$metrics")\"
"
    printf '\nThese are shown once, and stored nowhere:\n  for clients     %s\n  for management  %s\n\n' "$client" "$admin"
fi
[[ -e $folder/grafana_password ]] || write grafana_password "$(new_key '')"
[[ -e $folder/hf_token ]] || write hf_token ''

[[ $folder == /* ]] || folder=./$folder
if [[ -e $environment ]] && grep -q '^SECRETS=' "$environment"; then
    grep -qxF "SECRETS=$folder" "$environment" \
        || echo "$environment names other SECRETS: change the line to SECRETS=$folder to use these" >&2
else
    # A last line without an end would become one with this.
    [[ ! -s $environment || -z $(tail -c 1 "$environment") ]] || echo >>"$environment"
    echo "SECRETS=$folder" >>"$environment"
    echo "added SECRETS=$folder to $environment"
fi
