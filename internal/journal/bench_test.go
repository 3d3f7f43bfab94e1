package journal

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// What a Put takes, beside an Update of bbolt with one Put on the same disk at the same time, of which "ratio" is a multiple.
func BenchmarkPut(b *testing.B) {
	for name, key := range map[string]string{"clear": "", "sealed": passphrase} {
		b.Run(name, func(b *testing.B) {
			j := open(b, newPath(b), key)
			db, err := bbolt.Open(newPath(b), 0o600, nil)
			require.NoError(b, err)
			defer db.Close()
			require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("values"))
				return err
			}))
			value := []byte(`{"name":"tea","amount":12}`)
			var ours, plain time.Duration
			for i := 0; b.Loop(); i++ {
				key := fmt.Sprint("key ", i%100)
				for turn := range 2 {
					start := time.Now()
					if (i+turn)%2 == 0 { // each is the first as often as the other
						require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
							return tx.Bucket([]byte("values")).Put([]byte(key), value)
						}))
						plain += time.Since(start)
					} else {
						require.NoError(b, j.Put(room, Change{Key: key, Value: value}))
						ours += time.Since(start)
					}
				}
			}
			b.ReportMetric(float64(ours)/float64(plain), "ratio")
			b.ReportMetric(float64(plain.Microseconds())/float64(b.N), "µs/plain")
			b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "µs/put")
		})
	}
}

// What Open takes where 1,000 rooms of 10 keys were saved and few have changes.
func BenchmarkOpen(b *testing.B) {
	for name, key := range map[string]string{"clear": "", "sealed": passphrase} {
		b.Run(name, func(b *testing.B) {
			path := newPath(b)
			j := open(b, path, key)
			require.NoError(b, j.Save(thousandRooms()))
			require.NoError(b, j.Put("!1:example.org", Change{Key: "tea", Value: []byte("1")}))
			require.NoError(b, j.Close())
			for b.Loop() {
				j := open(b, path, key)
				require.NoError(b, j.Close())
			}
		})
	}
}

func thousandRooms() Known {
	known := Known{Rooms: make(map[string][]byte)}
	for room := range 1000 {
		var state []byte
		for key := range 10 {
			state = fmt.Appendf(state, `{"key %d":{"value":"what is known of it","stamp":[%d,"AAAAAAAAAAAAAAAA"]}}`, key, room)
		}
		known.Rooms[fmt.Sprintf("!%d:example.org", room)] = state
	}
	return known
}
