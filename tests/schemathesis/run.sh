#!/bin/sh
# Asks a live daemon, beside a simulated WhatsApp, what its OpenAPI document says it can be asked, and much that
# it says it cannot: no 5xx, no undocumented status, every answer as its schema says. Before that,
# examples/first-qr.sh is run against it.
#
# WAGATE and SIMULATOR name built binaries; VENV is where schemathesis is, or is installed to.
# EXAMPLES is how many requests of each operation are made up (10), SEED what they are made from (1).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${VENV:-"$here/.venv"}

if [ ! -x "$venv/bin/schemathesis" ] || ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi

scratch=$(mktemp -d)
daemon=
simulator=
finish() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    [ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
    [ -z "$simulator" ] || kill "$simulator" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 1' INT TERM

# Waits for a file to have something in it, while a process lives.
await() {
    tries=0
    while [ ! -s "$1" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ] || ! kill -0 "$2" 2>/dev/null; then
            echo "$3 did not start" >&2
            cat "$scratch/log" >&2 2>/dev/null || true
            exit 1
        fi
        sleep 0.1
    done
}

"$SIMULATOR" --listen 127.0.0.1:0 --control 127.0.0.1:0 --ready "$scratch/ready" 2>"$scratch/simulator.log" &
simulator=$!
await "$scratch/ready" "$simulator" "the simulator"
whatsapp=$(head -n 1 "$scratch/ready")
control=$(sed -n 2p "$scratch/ready")

# Endpoints that are made up are called nowhere: no network is allowed.
cd "$scratch"
WAGATE_STATE_DIR="$scratch/state" WAGATE_HTTP__LISTEN=127.0.0.1:0 WAGATE_WHATSAPP__URL="$whatsapp" \
    WAGATE_LIMITS__PER_TOKEN=off WAGATE_LIMITS__PER_ADDRESS=off WAGATE_LIMITS__FAILED_AUTHENTICATIONS=off \
    WAGATE_WHATSAPP__VERSION=2.3000.1042742319 WAGATE_WEBHOOKS__DENY_CIDRS=0.0.0.0/0,::/0 \
    WAGATE_EXTERNAL__WEBHOOK_SECRET_KEY=schemathesis \
    "$WAGATE" >"$scratch/said" 2>"$scratch/log" &
daemon=$!
await "$scratch/said" "$daemon" "the daemon"
tries=0
until base=$(sed -n 's/^ *address *//p' "$scratch/said") && [ -n "$base" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || { echo "the daemon does not say where it is" >&2; exit 1; }
    sleep 0.1
done
WAGATE_TOKEN=$(cat "$scratch/state/operator.token")
export WAGATE_TOKEN

WAGATE_URL="$base" sh "$here/../../examples/first-qr.sh" first "$scratch/first.png"
[ "$(head -c 4 "$scratch/first.png" | tail -c 3)" = PNG ]

# Asks the daemon, and says which id is in its answer: ask METHOD PATH BODY PREFIX
ask() {
    curl -fsS -X "$1" "$base$2" -H "Authorization: Bearer $WAGATE_TOKEN" -H 'Content-Type: application/json' -d "$3" |
        sed -n "s/.*\"id\":\"\($4_[0-9A-Z]*\)\".*/\1/p"
}

# Things to ask for: ids that are made up are not there, and a 404 is soon said.
WAGATE_ORGANIZATION=$(curl -fsS -H "Authorization: Bearer $WAGATE_TOKEN" "$base/api/organizations?clientId=1" |
    sed -n 's/.*"id":"\(org_[0-9A-Z]*\)".*/\1/p')
ask POST /api/whatsapp/session '{"sessionId": "first"}' nothing
WAGATE_MESSAGE=$(ask POST /api/whatsapp/session/first/messages \
    '{"to": "15550001111", "text": "hello", "queue": true}' msg)
WAGATE_WEBHOOK=$(ask POST /api/webhooks '{"url": "https://receiver.example.com/", "event_types": ["*"]}' ep)
WAGATE_REPLAY=$(ask POST "/api/webhooks/$WAGATE_WEBHOOK/replay" '{"after_sequence": 0}' rpl)
# What may be revoked. Ids of answers are asked for again, and among those of tokens is our own: once that is
# revoked, everything is a 401 and nothing is tested.
WAGATE_SPARE_TOKEN=$(ask POST /api/tokens '{"role": "viewer", "label": "to be revoked"}' tok)
WAGATE_OLD_TOKEN=$(ask POST /api/tokens '{"role": "viewer", "label": "to be rotated"}' tok)
# A session that is linked, and an image that it was sent.
ask POST /api/whatsapp/session '{"sessionId": "linked"}' nothing
tell() { curl -fsS -X POST "$control$1" -H 'Content-Type: application/json' -d "$2"; }
qr=$(curl -fsS -H "Authorization: Bearer $WAGATE_TOKEN" "$base/api/whatsapp/session/linked/qr.json?wait=30" |
    sed -n 's/.*"qr":"\([^"]*\)".*/\1/p')
tell /phones '{"number": "15550001111"}' >"$scratch/told"
tell /contacts '{"number": "15550002222"}' >>"$scratch/told"
tell /scan "{\"phone\": \"15550001111\", \"qr\": \"$qr\"}" >>"$scratch/told"
tell /media '{"from": "15550002222", "to": "15550001111", "kind": "image", "base64": "/9j/4AAQSkZJRg=="}' >>"$scratch/told"
WAGATE_MEDIA_MESSAGE=
tries=0
while [ -z "$WAGATE_MEDIA_MESSAGE" ] && [ "$tries" -lt 300 ]; do
    tries=$((tries + 1))
    sleep 0.1
    WAGATE_MEDIA_MESSAGE=$(ask GET /api/whatsapp/session/linked/messages '' msg)
done
# Sessions that run elsewhere, by a token and by a secret, what happens on one, and what it is called there.
ask POST /api/whatsapp/session '{"sessionId": "sealed", "origin": "external", "webhookAuth": "secret"}' nothing
ask POST /api/whatsapp/session '{"sessionId": "elsewhere", "origin": "external",
    "sessionData": {"vps_session_id": "wa_a545e2c1-0b0e-4b6e-9a7b-5c4d3e2f1a0b"}}' nothing
ask POST /api/whatsapp/webhook/elsewhere '{"event": "ready", "data": {}}' nothing
# A number at Meta, and what Meta has told of it.
WAGATE_META_ACCOUNT=$(ask POST /api/meta/accounts \
    '{"phoneNumberId": "106540352242922", "wabaId": "102290129340398", "appId": "1", "appSecret": "test_app_secret", "accessToken": "t", "verifyToken": "verify-it"}' mac)
# Another, whose verify token stays as it is.
challenged=$(ask POST /api/meta/accounts \
    '{"phoneNumberId": "106540352242923", "wabaId": "102290129340398", "appId": "1", "appSecret": "test_app_secret", "accessToken": "t", "verifyToken": "verify-it-too"}' mac)
WAGATE_META_KEY=$(curl -fsS -H "Authorization: Bearer $WAGATE_TOKEN" "$base/api/meta/accounts/$challenged" |
    sed -n 's,.*"ownPath":"/api/webhooks/whatsapp/\([^"]*\)".*,\1,p')
printf '%s' '{"object": "whatsapp_business_account", "entry": [{"id": "102290129340398", "changes": [{"field": "messages", "value": {
    "messaging_product": "whatsapp", "metadata": {"phone_number_id": "106540352242922"}, "messages": [
    {"from": "16505551234", "id": "wamid.1", "timestamp": "1799999000", "type": "text", "text": {"body": "hello"}}]}}]}]}' >"$scratch/posted"
signature=$("$venv/bin/python" -c 'import hashlib, hmac, sys
print(hmac.new(b"test_app_secret", open(sys.argv[1], "rb").read(), hashlib.sha256).hexdigest())' "$scratch/posted")
curl -fsS -X POST "$base/webhook" -H "X-Hub-Signature-256: sha256=$signature" --data-binary "@$scratch/posted"
WAGATE_META_EVENT=$(ask GET /api/meta/events '' mev)
# A conversation comes of it, and a campaign is sent from that number.
WAGATE_CONVERSATION=
tries=0
while [ -z "$WAGATE_CONVERSATION" ] && [ "$tries" -lt 300 ]; do
    tries=$((tries + 1))
    sleep 0.1
    WAGATE_CONVERSATION=$(ask GET /api/conversations '' cnv)
done
WAGATE_CAMPAIGN=$(ask POST /api/campaigns '{"name": "Sale", "sessionId": "meta_106540352242922"}' camp)
ask POST "/api/campaigns/$WAGATE_CAMPAIGN/audience" \
    '{"members": [{"phoneNumber": "16505551234", "messageId": "wamid.2"}]}' nothing
for thing in "$WAGATE_CONVERSATION" "$WAGATE_CAMPAIGN" "$WAGATE_META_ACCOUNT" "$WAGATE_META_KEY" "$WAGATE_META_EVENT" "$WAGATE_MEDIA_MESSAGE" "$WAGATE_ORGANIZATION" "$WAGATE_MESSAGE" "$WAGATE_WEBHOOK" "$WAGATE_REPLAY" "$WAGATE_SPARE_TOKEN" "$WAGATE_OLD_TOKEN"; do
    [ -n "$thing" ] || { echo "something to ask for could not be made" >&2; exit 1; }
done
export WAGATE_META_ACCOUNT WAGATE_META_KEY WAGATE_META_EVENT WAGATE_CONVERSATION WAGATE_CAMPAIGN
export WAGATE_ORGANIZATION WAGATE_MESSAGE WAGATE_MEDIA_MESSAGE WAGATE_WEBHOOK WAGATE_REPLAY WAGATE_SPARE_TOKEN WAGATE_OLD_TOKEN

# Sessions that are made up dial: not more than a few.
ask PATCH "/api/organizations/$WAGATE_ORGANIZATION" '{"maxSessions": 12}' org >"$scratch/limited"

status=0
"$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run "$base/openapi.json" \
    --phases examples,coverage,fuzzing --seed "${SEED:-1}" --max-examples "${EXAMPLES:-10}" \
    --generation-database none --no-color || status=$?
kill -0 "$daemon" 2>/dev/null || { echo "the daemon has ended" >&2; status=1; }
# What was made above was found: more than once, so not by what is asked above alone.
curl -fsS -H "Authorization: Bearer $WAGATE_TOKEN" "$base/metrics" >"$scratch/metrics" || status=1
for route in 'GET /api/campaigns/{campaignId}' 'GET /api/campaigns/{campaignId}/audience' \
    'POST /api/campaigns/{campaignId}/audience' 'GET /api/campaigns/{campaignId}/statistics' \
    'POST /api/campaigns/{campaignId}/recount' 'GET /api/conversations/{conversationId}/messages'; do
    answered="method=\"${route%% *}\",route=\"${route#* }\",status=\"200\""
    times=$(sed -n "s|^wagate_http_requests_total{$answered} ||p" "$scratch/metrics")
    [ "${times:-0}" -gt 1 ] || { echo "$route was never answered with 200" >&2; status=1; }
done
# The token is still good: what was asked was asked with it, to the end.
curl -fsS -o /dev/null -H "Authorization: Bearer $WAGATE_TOKEN" "$base/" || status=1
if grep -q 'panicked' "$scratch/log"; then
    grep -A3 'panicked' "$scratch/log" >&2
    status=1
fi
exit "$status"
