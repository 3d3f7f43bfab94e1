package matrix

import (
	"io"

	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger returns a logrus logger that writes to a bot's zap log, so that a bot
// has one log.
func zapLogger(log *zap.Logger) logrus.FieldLogger {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.SetLevel(logrus.DebugLevel)
	if !log.Core().Enabled(zapcore.DebugLevel) {
		logger.SetLevel(logrus.InfoLevel)
	}
	logger.AddHook(zapHook{log})
	return logger
}

type zapHook struct{ log *zap.Logger }

func (zapHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h zapHook) Fire(entry *logrus.Entry) error {
	fields := make([]zap.Field, 0, len(entry.Data))
	for name, value := range entry.Data {
		if err, ok := value.(error); ok {
			fields = append(fields, zap.NamedError(name, err))
		} else {
			fields = append(fields, zap.Any(name, value))
		}
	}
	if checked := h.log.Check(zapLevel(entry.Level), entry.Message); checked != nil {
		checked.Write(fields...)
	}
	return nil
}

func zapLevel(level logrus.Level) zapcore.Level {
	switch level {
	case logrus.TraceLevel, logrus.DebugLevel:
		return zapcore.DebugLevel
	case logrus.InfoLevel:
		return zapcore.InfoLevel
	case logrus.WarnLevel:
		return zapcore.WarnLevel
	default:
		return zapcore.ErrorLevel
	}
}
