package place

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisKey is the hash in which joe's memory for Redis keeps all, if it is not told another one.
const redisKey = "joe-bot"

// What fails is in the errors. The client's own log would say it once more, on standard error.
func init() { logging.Disable() }

// redisBatch is how many keys go in one request.
const redisBatch = 500

// A Redis is the hash of a joe memory for Redis.
type Redis struct {
	options *redis.Options
	key     string
}

// NewRedis returns the place that a URL names, as in redis://:password@localhost:6379/0?key=joe-bot, or rediss with TLS. The slashes before
// the host may be left out, and redis: may stand before a whole URL.
func NewRedis(text string) (Redis, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	switch {
	case strings.HasPrefix(rest, "redis://"), strings.HasPrefix(rest, "rediss://"):
		if scheme == "rediss" && !strings.HasPrefix(rest, "rediss://") {
			return Redis{}, errors.New("the URL of Redis begins with rediss:, which asks for TLS, and goes on with redis://, which asks for none: leave one of them out")
		}
		text = rest
	case !strings.HasPrefix(rest, "//"):
		text = scheme + "://" + rest
	}
	u, err := url.Parse(text)
	if err != nil { // its own words quote the URL, which may hold a password
		return Redis{}, errors.New("the URL of Redis is none: give one as redis://user:password@localhost:6379/0?key=joe-bot, with special characters as %40")
	}
	query := u.Query()
	r := Redis{key: redisKey}
	if query.Has("key") {
		r.key = query.Get("key")
	}
	query.Del("key")
	u.RawQuery = query.Encode()
	if r.options, err = redis.ParseURL(u.String()); err != nil {
		return Redis{}, fmt.Errorf("the URL of Redis, %s: %w", u.Redacted(), err)
	}
	// What only newer servers know of is not asked for.
	r.options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	r.options.DisableIdentity = true
	return r, nil
}

// Read implements Place.
func (r Redis) Read(ctx context.Context) (contents Contents, err error) {
	err = r.use(func(client *redis.Client) error {
		all, err := client.HGetAll(ctx, r.key).Result()
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("it is not there; name another one with ?key=…: %w", ErrMissing)
		}
		contents.Values = make(map[string][]byte, len(all))
		for key, value := range all {
			contents.Values[key] = []byte(value)
		}
		return err
	})
	return contents, err
}

// Refuses implements Place: a hash has any keys.
func (Redis) Refuses(string) error { return nil }

// Write implements Place.
func (r Redis) Write(ctx context.Context, values map[string][]byte, done func(string, error)) error {
	return r.use(func(client *redis.Client) error {
		for keys := range slices.Chunk(slices.Sorted(maps.Keys(values)), redisBatch) {
			fields := make([]any, 0, 2*len(keys))
			for _, key := range keys {
				fields = append(fields, key, values[key])
			}
			if err := client.HSet(ctx, r.key, fields...).Err(); err != nil {
				return err
			}
			for _, key := range keys {
				done(key, nil)
			}
		}
		return nil
	})
}

func (r Redis) use(do func(*redis.Client) error) error {
	client := redis.NewClient(r.options)
	defer client.Close()
	if err := do(client); err != nil {
		return fmt.Errorf("the hash %q of Redis at %s: %w", r.key, r.options.Addr, err)
	}
	return nil
}
