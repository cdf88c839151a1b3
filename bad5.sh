. /tmp/walk-env.sh
