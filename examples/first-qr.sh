#!/bin/sh
# From nothing to a QR code with curl alone: makes an organization, a token of it and a session, and fetches the
# session's QR code as an image.
#
#   WAGATE_TOKEN=$(cat operator.token) sh examples/first-qr.sh [session [file.png]]
#
# WAGATE_URL is where the daemon answers (http://127.0.0.1:8080), WAGATE_TOKEN an operator's token.
set -eu
url=${WAGATE_URL:-http://127.0.0.1:8080}
session=${1:-first}
file=${2:-$session.png}
: "${WAGATE_TOKEN:?an operator token is needed: a new installation has one in operator.token in its state directory}"

# Asks the API; what it refuses ends the script, with the problem document. The token is not on the command line,
# where everybody on the machine could read it.
ask() {
    token=$1 method=$2 path=$3
    shift 3
    printf 'header = "Authorization: Bearer %s"\n' "$token" |
        curl --silent --show-error --fail-with-body --config - -X "$method" "$url$path" "$@"
}

# The text that a member of a small JSON document has. Asked first and read then: what fails inside of a pipe would be
# passed over.
member() { printf '%s' "$answer" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
refused() {
    printf '%s\n' "$answer" >&2
    exit 1
}

answer=$(ask "$WAGATE_TOKEN" POST /api/organizations --json '{"name": "My first organization"}') || refused
organization=$(member id)
echo "organization: $organization"

answer=$(ask "$WAGATE_TOKEN" POST /api/tokens -H "X-Organization: $organization" \
    --json '{"role": "manager", "label": "first-qr.sh"}') || refused
token=$(member secret)
echo "token:        $token"

answer=$(ask "$token" POST /api/whatsapp/session --json "{\"sessionId\": \"$session\"}") || refused
echo "session:      $session"

# Waits up to half a minute for the first code. What comes is no image before it is known that it is none of the
# problems that there are.
ask "$token" GET "/api/whatsapp/session/$session/qr.png?wait=30" --output "$file.part" || {
    cat "$file.part" >&2
    rm -f "$file.part"
    exit 1
}
mv "$file.part" "$file"
echo "QR code:      $file (scan it with WhatsApp: Linked devices, Link a device)"
